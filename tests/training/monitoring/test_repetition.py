"""Loops and variety of sampled tokens."""

from __future__ import annotations

import pytest

from fairlead.training.monitoring.repetition import distinct_n, is_loop


@pytest.mark.parametrize(
    ("tokens", "loops"),
    [
        ([5] * 12, True),
        ([5] * 11, False),
        ([1, 2, 3] * 4, True),
        ([1, 2, 3] * 3, False),
        ([9, 8, *([1, 2, 3, 4] * 4), 7], True),
        (list(range(60)), False),
        ([1, 2] * 5 + [3] + [1, 2] * 5, False),
        ([], False),
    ],
)
def test_a_loop_is_a_block_that_stands_back_to_back(tokens: list[int], loops: bool) -> None:
    assert is_loop(tokens) is loops


def test_distinct_n_counts_over_all_samples() -> None:
    assert distinct_n([[1, 2, 1], [1, 2]], 2) == pytest.approx(2 / 3)
    assert distinct_n([[1], []], 2) is None
