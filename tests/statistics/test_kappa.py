"""Cohen's κ: hand-worked numbers, degenerate tables, coverage."""

from __future__ import annotations

import numpy as np
import pytest

from fairlead.statistics.kappa import cohens_kappa
from tests.support.intervals import covers


def test_kappa_worked_by_hand():
    # Cohen 1960's form: 20 and 15 agreed of 50, 5 and 10 not; p_o = 0.7, p_e = 0.5
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    kappa = cohens_kappa(first, second)
    assert kappa.value == pytest.approx(0.4)
    assert kappa.low < 0.4 < kappa.high
    assert cohens_kappa(second, first).value == pytest.approx(0.4)


def test_perfect_agreement_has_a_width_and_one_single_label_no_kappa():
    perfect = cohens_kappa([1, 2] * 10, [1, 2] * 10)
    assert (perfect.value, perfect.high) == (1.0, pytest.approx(1.0))
    assert 0.6 < perfect.low < 0.75
    assert cohens_kappa(["tie"] * 9, ["tie"] * 9).value is None
    assert cohens_kappa([], []).value is None
    assert cohens_kappa([1, 1], [1, 2]).value == 0.0


@pytest.mark.parametrize("agree", [0.6, 0.8, 0.95])
def test_kappa_covers_what_it_says_at_thirty_items(agree):
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(500):
        first = rng.integers(0, 2, 30)
        second = np.where(rng.random(30) < agree, first, 1 - first)
        hits += covers(cohens_kappa(first.tolist(), second.tolist()), 2 * agree - 1)
    assert 0.93 < hits / 500 < 0.985
