"""Tests of a paired comparison: sign test, sign-flip permutation test, Holm's correction, non-inferiority."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.stats.multitest import multipletests

from fairlead.records import Interval
from fairlead.statistics.intervals import Floats, Labels, cluster_codes, finite, within

_EXACT_UNITS = 20  # 2^20 sign patterns take 10 ms
_NUMBERS_AT_ONCE = 4_000_000


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

    The statistic is the sum; whole clusters flip together. Exact over all sign patterns for up to 20 units whose
    sum is not 0; else `draws` random patterns and p = (1 + as extreme) / (1 + draws), which never understates
    (Phipson & Smyth 2010).
    """
    d = finite(differences, "differences")
    units = np.bincount(cluster_codes(clusters, len(d)), d) if len(d) else d
    size = np.abs(units[np.abs(units) > 1e-12 * np.abs(units).max(initial=0)])
    observed = abs(float(units.sum()))
    if len(size) == 0:
        return TestResult(None, 0, "undefined: no difference in any unit")
    reach = observed - 1e-9 * float(size.sum())  # patterns that only rounding keeps from being as extreme
    if len(size) <= _EXACT_UNITS:
        sums = np.zeros(1)
        for value in size:
            sums = np.concatenate([sums + value, sums - value])
        return TestResult(float(np.mean(np.abs(sums) >= reach)), len(size), "exact permutation test")
    extreme = int(np.sum(np.abs(_random_flips(size, draws, rng)) >= reach))
    return TestResult((1 + extreme) / (1 + draws), len(size), f"permutation test, {draws} draws")


def _random_flips(size: Floats, draws: int, rng: np.random.Generator) -> Floats:
    """Sums of `size` under random signs.

    Equal sizes flip together by one binomial draw. Where most differ, a random byte picks one of the 256 signed
    sums of eight sizes.
    """
    values, counts = np.unique(size, return_counts=True)
    few = 8 * len(values) <= len(size)
    octets = np.pad(size, (0, -len(size) % 8)).reshape(-1, 8)
    signs = 1.0 - 2.0 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    table = (octets @ signs.T).ravel()
    offset = 256 * np.arange(len(octets))
    width = len(values) if few else len(octets)
    step = max(1, _NUMBERS_AT_ONCE // width)
    parts = []
    for start in range(0, draws, step):
        shape = (min(step, draws - start), width)
        if few:
            parts.append((2 * rng.binomial(counts, 0.5, shape) - counts) @ values)
        else:
            parts.append(table.take(rng.integers(0, 256, shape, dtype=np.uint8) + offset).sum(axis=1))
    return np.concatenate(parts)


def holm(pvalues: ArrayLike) -> Floats:
    """Holm's step-down adjusted p-values, in the order given (Holm 1979, Scand. J. Statistics 6:65-70)."""
    p = within(pvalues, 0.0, 1.0, "pvalues")
    return np.asarray(multipletests(p, method="holm")[1], dtype=np.float64) if len(p) else p


def non_inferiority(difference: Interval, margin: float) -> bool | None:
    """Whether the new model is worse by less than `margin`: the interval's lower end lies above -margin.

    One-sided at (1 - level) / 2, so 2.5 % for a 95 % interval (Walker & Nowacki 2011, J. Gen. Intern. Med.
    26:192-196). None where the interval is undefined.

    Args:
        difference: new minus old, more is better.
        margin: largest loss that is still acceptable, in the units of the difference, above 0.
    """
    if not margin > 0:
        raise ValueError(f"margin: {margin} is not above 0")
    return None if difference.low is None else difference.low > -margin
