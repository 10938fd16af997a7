"""Intervals for means, paired differences, proportions and means of bounded values, independent or in clusters.

Pure functions on arrays: no file, no clock, no random state. A value that is absent is not passed; NaN is an
error of the caller. Where a figure cannot be given it is None and `method` says why.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from fairlead.records import Interval

Floats = NDArray[np.float64]
Labels = Sequence[Any] | NDArray[Any]


@dataclass(frozen=True, slots=True)
class MissingBounds:
    """What a mean would be if every missing value took the worst, or the best, value that it can take."""

    worst: float | None
    best: float | None
    n: int
    missing: int


@dataclass(frozen=True, slots=True)
class ClusterError:
    """Standard error of a mean over clusters, its degrees of freedom, and the number of clusters."""

    standard_error: float
    df: float
    clusters: int


def finite(values: ArrayLike, name: str = "values") -> Floats:
    """A one-dimensional array of finite floats; ValueError on anything else."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name}: one dimension is wanted, not {array.ndim}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: {int((~np.isfinite(array)).sum())} are not finite; pass only those present")
    return array


def within(values: ArrayLike, low: float, high: float, name: str = "values") -> Floats:
    """`finite`, and every value in [low, high]."""
    array = finite(values, name)
    if ((array < low) | (array > high)).any():
        raise ValueError(f"{name}: all must lie in [{low:g}, {high:g}]")
    return array


def all_equal(x: Floats) -> bool:
    """Whether the values differ by no more than rounding."""
    return bool(np.ptp(x) <= 1e-12 * np.abs(x).max())


def same_length(first: Sequence[Any] | NDArray[Any], second: Sequence[Any] | NDArray[Any], names: str) -> None:
    if len(first) != len(second):
        raise ValueError(f"{names}: lengths differ ({len(first)} and {len(second)})")


def check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level: {level} is not between 0 and 1")


def cluster_codes(clusters: Labels | None, n: int) -> NDArray[np.intp]:
    """Code 0..G-1 of each value's cluster; without clusters every value is its own."""
    if clusters is None:
        return np.arange(n)
    if len(clusters) != n:
        raise ValueError(f"clusters: {len(clusters)} labels for {n} values")
    codes: dict[Any, int] = {}
    labels = clusters.tolist() if isinstance(clusters, np.ndarray) else clusters
    return np.fromiter((codes.setdefault(label, len(codes)) for label in labels), np.intp, n)


def cluster_error(values: ArrayLike, clusters: Labels | None = None) -> ClusterError | None:
    """Cluster-robust standard error of the mean; None with fewer than two clusters.

    Miller 2024 (arXiv 2411.00640, appendix A) sums the products of the residuals within each cluster:
    SE² = Σ_g S_g² / n², S_g = Σ_{i in g} (x_i - x̄). That is too small with few clusters, so each S_g² is divided
    by 1 - n_g/n (the CR2 correction of Bell & McCaffrey 2002 for a model with an intercept only), and the degrees
    of freedom are Satterthwaite's under a working model with one intra-cluster correlation, estimated here
    (Imbens & Kolesár 2016). With clusters of size one both are those of the ordinary t interval.
    """
    x = finite(values)
    codes = cluster_codes(clusters, len(x))
    sizes = np.bincount(codes).astype(np.float64)
    if len(sizes) < 2:
        return None
    n = len(x)
    sums = np.bincount(codes, x - x.mean())
    share = sizes / n
    variance = float(np.sum(sums**2 / (1 - share))) / n**2
    rho = _intra_cluster_correlation(x, codes, sizes)
    return ClusterError(math.sqrt(variance), _satterthwaite(sizes, rho), len(sizes))


def _intra_cluster_correlation(x: Floats, codes: NDArray[np.intp], sizes: Floats) -> float:
    """One-way analysis of variance estimate, kept in [0, 1]; 0 where it is undefined."""
    n, groups = len(x), len(sizes)
    if n == groups:
        return 0.0
    means = np.bincount(codes, x) / sizes
    within_square = float(np.sum((x - means[codes]) ** 2)) / (n - groups)
    between_square = float(np.sum(sizes * (means - x.mean()) ** 2)) / (groups - 1)
    usual_size = (n - float(np.sum(sizes**2)) / n) / (groups - 1)
    between = (between_square - within_square) / usual_size
    total = between + within_square
    return min(max(between / total, 0.0), 1.0) if total > 0 else 0.0


def _satterthwaite(sizes: Floats, rho: float) -> float:
    """Degrees of freedom tr(M)² / tr(M²), M the covariance of the weighted cluster sums of residuals.

    With w = n_g/n, p = 1/(1-w) and s = n_g (1 + (n_g - 1) ρ), the variance of a cluster's sum,
    M_gh = √(p_g p_h) (δ_gh s_g - w_g s_h - s_g w_h + w_g w_h Σs); its moments need no matrix.
    """
    w = sizes / sizes.sum()
    p = 1 / (1 - w)
    s = sizes * (1 + (sizes - 1) * rho)
    total = s.sum()
    rest = -2 * w * s + total * w**2
    trace = np.sum(p * (s + rest))
    ww, ws, ss = np.sum(p * w * w), np.sum(p * w * s), np.sum(p * s * s)
    square = 2 * ww * ss + total**2 * ww**2 + 2 * ws**2 - 4 * total * ww * ws
    square += np.sum(p**2 * s * (s + 2 * rest))
    return float(trace**2 / square)


def mean_interval(values: ArrayLike, clusters: Labels | None = None, level: float = 0.95) -> Interval:
    """Mean with its t interval, cluster-robust where `clusters` names each value's cluster.

    Values are of any range; for values of a known range prefer `bounded_mean_interval`, which also holds for n
    small, values near an end, and values that are all equal. Undefined for one value, one cluster, or values
    that are all equal (a standard error of 0 would claim a certainty that n values cannot give).
    """
    check_level(level)
    x = finite(values)
    n = len(x)
    if n == 0:
        return Interval(None, None, None, 0, "undefined: no values")
    mean = float(x.mean())
    if n == 1:
        return Interval(mean, None, None, 1, "undefined: one value")
    if all_equal(x):
        return Interval(float(x[0]), None, None, n, "undefined: all values are equal")
    error = cluster_error(x, clusters)
    if error is None:
        return Interval(mean, None, None, n, "undefined: one cluster")
    half = float(stats.t.isf((1 - level) / 2, error.df)) * error.standard_error
    method = "t" if clusters is None else f"cluster-robust t, {error.clusters} clusters"
    return Interval(mean, mean - half, mean + half, n, method)


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    clusters: Labels | None = None,
    level: float = 0.95,
    bounds: tuple[float, float] | None = None,
) -> Interval:
    """Mean of a - b over prompts that both answered, with its interval.

    Args:
        a, b: figures of the two models, the same prompt at the same place.
        clusters: cluster of each prompt.
        bounds: range of one figure where it is known, such as (0, 1) or (1, 10). The interval is then
            `bounded_mean_interval` of the differences (for 0/1 figures that is Tango 1998, Statistics in Medicine
            17:891-908), which is defined for differences that are all equal. Without it, `mean_interval`.
    """
    x, y = finite(a, "a"), finite(b, "b")
    same_length(x, y, "a and b")
    difference = np.where(np.isclose(x, y, rtol=1e-12, atol=0), 0.0, x - y)
    if bounds is None:
        return mean_interval(difference, clusters, level)
    low, high = bounds
    within(x, low, high, "a")
    within(y, low, high, "b")
    return bounded_mean_interval(difference, low - high, high - low, clusters, level)


def proportion_interval(successes: int, n: int, level: float = 0.95) -> Interval:
    """Share of successes with Wilson's score interval (Wilson 1927; Brown, Cai & DasGupta 2001)."""
    check_level(level)
    if not 0 <= successes <= n:
        raise ValueError(f"successes: {successes} of {n}")
    if n == 0:
        return Interval(None, None, None, 0, "undefined: no values")
    ends = stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    return Interval(successes / n, float(ends.low), float(ends.high), n, "Wilson")


def bounded_mean_interval(
    values: ArrayLike, low: float, high: float, clusters: Labels | None = None, level: float = 0.95
) -> Interval:
    """Mean of values that cannot leave [low, high], with a score interval.

    The interval holds every mean μ that a score test does not reject: (x̄ - μ)² <= c² σ²(μ) / n, where σ²(μ) is the
    variance under the likeliest distribution on the observed values and the two ends that has mean μ (Owen
    1988, Biometrika 75:237-249, with the ends added to the support). It is Wilson's interval for 0/1 values and
    that of Tango 1998 for 0 / ½ / 1, stays inside the range, and is defined when all values are equal, which a t
    or bootstrap interval is not. Where values bunch far from both ends it is wider than need be at small n,
    because a rare value at an end could have gone unseen; for scores of 1 to 10 prefer `mean_interval`.

    With clusters c² is multiplied by the design effect, the ratio of the cluster-robust to the independent
    variance, and c is Student's quantile over the clusters (Korn & Graubard 1998; Franco, Little, Louis & Slud
    2019); never narrower than without clusters. Where all values are equal the design effect cannot be
    estimated, and each cluster counts as one value.
    """
    check_level(level)
    x = within(values, low, high)
    n = len(x)
    if n == 0:
        return Interval(None, None, None, 0, "undefined: no values")
    mean, method = float(x.mean()), "score"
    bound = float(stats.norm.isf((1 - level) / 2)) ** 2 / n
    if clusters is not None and len(set(cluster_codes(clusters, n).tolist())) < n:
        error = cluster_error(x, clusters)
        if error is None:
            return Interval(mean, None, None, n, "undefined: one cluster")
        bound = _clustered_bound(x, error, bound, level)
        method = f"cluster-robust score, {error.clusters} clusters"
    unit, counts = np.unique(np.round((x - low) / (high - low), 15), return_counts=True)
    share = counts / n
    below = _score_end(unit, share, bound)
    above = 1 - _score_end(1 - unit[::-1], share[::-1], bound)
    return Interval(mean, low + (high - low) * below, low + (high - low) * above, n, method)


def _clustered_bound(x: Floats, error: ClusterError, independent_bound: float, level: float) -> float:
    """c² / n of the score test under clusters: the wider of the cluster-robust and the independent test."""
    if all_equal(x):
        return independent_bound * len(x) / error.clusters
    critical = float(stats.t.isf((1 - level) / 2, error.df))
    return max((critical * error.standard_error) ** 2 / float(x.var(ddof=1)), independent_bound)


def _score_end(values: Floats, share: Floats, bound: float) -> float:
    """Lower end of the score interval of a mean on [0, 1]; `values` ascend.

    The likeliest distribution of mean μ has weights f / (1 + λ (v - μ)), and its variance is (x̄ - μ) / λ, so that
    the score test's (x̄ - μ)² = bound·σ²(μ) reads (x̄ - μ) λ = bound. With u = λ / (1 - λμ + λ) in [0, 1) the
    weights are proportional to f / (1 - u + u v), which gives μ and λ without a search. From λ = 1/μ on what is
    left lies as mass at 0, and the end is x̄ / (1 + bound).
    """
    mean = float(np.sum(values * share))
    if mean <= 0:
        return 0.0
    if values[0] > 0 and mean / (1 + bound) <= 1 / float(np.sum(share / values)):
        return mean / (1 + bound)

    def tilted_mean(u: float) -> float:
        weights = share / (1 - u + u * values)
        return float(weights @ values / weights.sum())

    def excess(u: float) -> float:
        candidate = tilted_mean(u)
        return (mean - candidate) * u / (1 - u + u * candidate) - bound

    most = 1 - 1e-15
    if excess(most) <= 0:  # the end lies within rounding of 0
        return 0.0
    return tilted_mean(float(optimize.brentq(excess, 0.0, most, xtol=1e-15)))


def missing_bounds(present: ArrayLike, missing: int, low: float = 0.0, high: float = 1.0) -> MissingBounds:
    """Mean if all `missing` values were `low`, and if all were `high` (Manski 1989, worst-case bounds)."""
    x = within(present, low, high, "present")
    if missing < 0:
        raise ValueError(f"missing: {missing} is negative")
    total = len(x) + missing
    if total == 0:
        return MissingBounds(None, None, 0, 0)
    known = float(x.sum())
    return MissingBounds((known + missing * low) / total, (known + missing * high) / total, len(x), missing)
