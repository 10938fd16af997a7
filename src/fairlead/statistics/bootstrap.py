"""BCa bootstrap intervals (Efron 1987, JASA 82:171-185), with the quantiles widened for small n.

Plain BCa is too narrow at n = 30 for the same reason as a normal interval with the variance over n: Hesterberg
2015 (The American Statistician 69:371-386) takes √(n/(n-1)) times Student's quantile in place of
the normal one. Randomness is an argument: the same generator state gives the same interval.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from fairlead.records import Interval
from fairlead.statistics.intervals import Floats, Labels, all_equal, check_level, cluster_codes, finite

_ROWS_AT_ONCE = 4_000_000  # numbers held in memory for one chunk of draws
_BINS = 1024
_MOST_INDICES = 100_000_000  # beyond so many single draws the values are binned


def bootstrap_interval(
    values: ArrayLike,
    rng: np.random.Generator,
    clusters: Labels | None = None,
    level: float = 0.95,
    draws: int = 10_000,
) -> Interval:
    """Mean with its BCa interval, whole clusters drawn where `clusters` are given.

    A draw of n values with replacement is a multinomial draw of how often each distinct value comes, which is the
    same distribution and, for verdicts, a thousand times fewer numbers. Where more than 10^8 single values or
    clusters would have to be drawn, those of one size are first put into 1,024 bins of equal width at their bin's
    mean (then `method` says so); this changes the interval's width by less than a hundredth.

    Undefined for fewer than two values or clusters, or values that are all equal: a resample of equal values
    never differs, which would claim certainty.
    """
    check_level(level)
    x = finite(values)
    n = len(x)
    if n == 0:
        return Interval(None, None, None, 0, "undefined: no values")
    mean = float(x.mean())
    codes = cluster_codes(clusters, n)
    sizes = np.bincount(codes).astype(np.float64)
    if len(sizes) < 2:
        return Interval(mean, None, None, n, "undefined: one value" if n == 1 else "undefined: one cluster")
    if all_equal(x):
        return Interval(mean, None, None, n, "undefined: all values are equal")
    sums = np.bincount(codes, x).astype(np.float64)
    rows, counts = np.unique(np.stack([sums, sizes], axis=1), axis=0, return_counts=True)
    binned = 8 * len(rows) > len(sizes) and len(sizes) * draws > _MOST_INDICES
    if binned:
        rows, counts = _binned(sums, sizes)
    replicates = _resampled_ratios(rows, counts, draws, rng)
    left_out = (sums.sum() - sums) / (n - sizes)
    critical = short_spread(len(sizes)) * float(stats.t.isf((1 - level) / 2, len(sizes) - 1))
    low, high, reason = bca_ends(mean, replicates, left_out.mean() - left_out, critical)
    method = f"BCa, {draws} draws" + ("" if clusters is None else f" of {len(sizes)} clusters")
    method += f", values in {_BINS} bins" if binned else ""
    return Interval(mean, low, high, n, reason or method)


def bca_ends(
    estimate: float, replicates: Floats, influence: Floats, critical: float
) -> tuple[float | None, float | None, str]:
    """Ends of a BCa interval, and "" or why there are none.

    Args:
        estimate: the statistic on the data.
        replicates: the statistic on each resample.
        influence: of each independent unit (value or cluster) on the statistic, up to a common factor: jackknife
            mean minus left-out value, or the infinitesimal jackknife.
        critical: distance of the ends in standard deviations, before bias and acceleration are corrected.
    """
    below = float(np.mean(replicates < estimate) + np.mean(replicates == estimate) / 2)
    spread = float(np.sum(influence**2))
    if not 0 < below < 1 or not 0 < spread < math.inf:
        return None, None, "undefined: the resamples do not vary around the estimate"
    bias = float(stats.norm.ppf(below))
    acceleration = float(np.sum(influence**3)) / (6 * spread**1.5)
    tails = [_bca_tail(bias, acceleration, z) for z in (-critical, critical)]
    low, high = np.quantile(replicates, tails)
    return float(low), float(high), ""


def short_spread(n: int) -> float:
    """√(n / (n - 1)): how much smaller the spread of resamples of n units is than a mean's standard error."""
    return math.sqrt(n / (n - 1))


def _bca_tail(bias: float, acceleration: float, z: float) -> float:
    """Efron 1987: the quantile of the replicates that stands for z."""
    shifted = bias + z
    scale = 1 - acceleration * shifted
    if scale <= 0:  # the correction diverges: the end is that of the replicates
        return 1.0 if z > 0 else 0.0
    return float(stats.norm.cdf(bias + shifted / scale))


def _resampled_ratios(rows: Floats, counts: NDArray[np.intp], draws: int, rng: np.random.Generator) -> Floats:
    """Σ sums / Σ sizes of `draws` resamples of units, of which row k (sum, size) stands for `counts[k]`."""
    units = int(counts.sum())
    few = 8 * len(rows) <= units
    width = len(rows) if few else units
    step = max(1, _ROWS_AT_ONCE // width)
    every = np.repeat(rows, counts, axis=0)
    parts = []
    for start in range(0, draws, step):
        size = min(step, draws - start)
        if few:
            totals = rng.multinomial(units, counts / units, size) @ rows
        else:
            index = rng.integers(0, units, (size, units))
            totals = np.stack([every[:, 0].take(index).sum(1), every[:, 1].take(index).sum(1)], axis=1)
        parts.append(totals[:, 0] / totals[:, 1])
    return np.concatenate(parts)


def _binned(sums: Floats, sizes: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Rows (mean of the bin, size) and how many units each bin holds."""
    span = float(np.ptp(sums)) or 1.0
    place = np.minimum((sums - sums.min()) / span * _BINS, _BINS - 1).astype(np.intp)
    _, bins, counts = np.unique(np.stack([place, sizes]), axis=1, return_inverse=True, return_counts=True)
    rows = np.stack([np.bincount(bins.ravel(), column) for column in (sums, sizes)], axis=1)
    return rows / counts[:, None], counts
