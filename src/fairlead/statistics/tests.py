"""Tests of a paired comparison: sign test, sign-flip permutation test, Holm's correction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.stats.multitest import multipletests

from fairlead.statistics.intervals import Floats, Labels, cluster_codes, finite, within

_NUMBERS_AT_ONCE = 2_000_000


@dataclass(frozen=True, slots=True)
class TestResult:
    """A two-sided p-value.

    Attributes:
        p: None where nothing can be tested.
        n: number of units that carry information (untied pairs, or clusters whose sum is not 0).
        method: how p was found, or why there is none.
    """

    __test__ = False  # not a test case, whatever a collector makes of its name

    p: float | None
    n: int
    method: str


def sign_test(wins: int, losses: int) -> TestResult:
    """Exact two-sided sign test of wins against losses; ties carry no information (Dixon & Mood 1946)."""
    if wins < 0 or losses < 0:
        raise ValueError(f"counts cannot be negative: {wins}, {losses}")
    if wins + losses == 0:
        return TestResult(None, 0, "undefined: only ties")
    p = float(stats.binomtest(wins, wins + losses).pvalue)
    return TestResult(p, wins + losses, "exact sign test")


def permutation_test(
    differences: ArrayLike, rng: np.random.Generator, clusters: Labels | None = None, draws: int = 10_000
) -> TestResult:
    """Two-sided sign-flip test that paired differences are symmetric about 0 (Fisher 1935, section 21).

    The statistic is the sum; whole clusters flip together. Exact where the units whose sum is not 0 have no more than
    `draws` sign patterns; else `draws` random patterns and p = (1 + as extreme) / (1 + draws), which never understates
    (Phipson & Smyth 2010).
    """
    d = finite(differences, "differences")
    sums = np.bincount(cluster_codes(clusters, len(d)), d) if len(d) else d
    units = sums[np.abs(sums) > 1e-12 * np.abs(sums).max(initial=0)]
    n = len(units)
    if n == 0:
        return TestResult(None, 0, "undefined: no difference in any unit")
    if n == 1:  # both signs are as extreme, and SciPy takes at least two values
        return TestResult(1.0, 1, "exact permutation test")
    scale = float(np.abs(units).sum())

    def distance(values: Floats, axis: int) -> Floats:
        """|sum|, rounded so that patterns that only rounding keeps from being as extreme count as such."""
        return np.asarray(np.round(np.abs(values.sum(axis=axis)) / scale, 9))

    result = stats.permutation_test(
        (units,),
        distance,
        permutation_type="samples",
        vectorized=True,
        alternative="greater",
        n_resamples=draws,
        batch=max(1, _NUMBERS_AT_ONCE // n),
        rng=rng,
    )
    exact = n < draws.bit_length()  # 2^n patterns are at most `draws`
    method = "exact permutation test" if exact else f"permutation test, {draws} draws"
    return TestResult(float(result.pvalue), n, method)


def holm(pvalues: ArrayLike) -> Floats:
    """Holm's step-down adjusted p-values, in the order given (Holm 1979, Scand. J. Statistics 6:65-70)."""
    p = within(pvalues, 0.0, 1.0, "pvalues")
    return np.asarray(multipletests(p, method="holm")[1], dtype=np.float64) if len(p) else p
