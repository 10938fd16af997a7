"""A mean over two crossed samples: prompts that several trainings, one of each seed, have all answered."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from fairlead.records import Interval
from fairlead.statistics.intervals import check_level, cluster_codes, finite


@dataclass(frozen=True, slots=True)
class TwoWayMean:
    """A mean over seeds and prompts.

    Attributes:
        mean: with an interval for other prompts and other seeds.
        of_seeds: the mean of each seed.
        seed_share: share of the mean's variance that is the seeds' own; None where there is no variance.
        seeds_differ_p: of the F test that all seeds have one mean; None where it is undefined.
    """

    mean: Interval
    of_seeds: tuple[float, ...]
    seed_share: float | None
    seeds_differ_p: float | None


def two_way_mean(values: ArrayLike, clusters: Sequence[Hashable] | None = None, level: float = 0.95) -> TwoWayMean:
    """The mean of values crossed by seed and prompt, where another run would draw other seeds and other prompts.

    Its variance is that of the seeds' means plus that of the prompts' (by cluster), less that of their interaction,
    which both contain (Cameron, Gelbach & Miller 2011, J. Bus. Econ. Stat. 29:238-249), and never below the larger
    of the two. The quantile is Student's with Satterthwaite's degrees of freedom: few seeds that differ make it wide.

    Args:
        values: [seeds, prompts], without missing ones.
        clusters: cluster of every prompt; each is its own if None.

    Raises:
        ValueError: for fewer than two seeds or clusters.
    """
    check_level(level)
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2:
        raise ValueError(f"values: [seeds, prompts] are wanted, not {table.ndim} axes")
    finite(table.ravel())
    seeds, prompts = (int(size) for size in table.shape)
    codes = cluster_codes(clusters, prompts)
    groups = int(codes.max()) + 1 if prompts else 0
    if seeds < 2 or groups < 2:
        raise ValueError(f"{seeds} seeds and {groups} clusters: two of each are needed")
    mean, of_seeds = float(table.mean()), table.mean(axis=1)
    residual = table - of_seeds[:, None] - table.mean(axis=0)[None, :] + mean
    by_seed = float(of_seeds.var(ddof=1)) / seeds
    sums = np.bincount(codes, (table.mean(axis=0) - mean), minlength=groups)
    by_prompt = groups / (groups - 1) * float(sums @ sums) / prompts**2
    cells = np.array([np.bincount(codes, row, minlength=groups) for row in residual])
    degrees = (seeds - 1) * (groups - 1)
    interaction = float((cells**2).sum()) / degrees * seeds * groups / (seeds * prompts) ** 2
    variance = max(by_seed + by_prompt - interaction, by_seed, by_prompt)
    if variance <= 0:
        return TwoWayMean(
            Interval(mean, mean, mean, prompts, "all values are equal"), tuple(of_seeds.tolist()), None, None
        )
    df = variance**2 / (by_seed**2 / (seeds - 1) + by_prompt**2 / (groups - 1))
    half = float(stats.t.isf((1 - level) / 2, df)) * variance**0.5
    p = float(stats.f.sf(by_seed / interaction, seeds - 1, degrees)) if interaction > 0 else None
    return TwoWayMean(
        mean=Interval(
            mean, mean - half, mean + half, prompts, f"two-way, {seeds} seeds and {groups} clusters of prompts"
        ),
        of_seeds=tuple(of_seeds.tolist()),
        seed_share=max(0.0, by_seed - interaction) / variance,
        seeds_differ_p=p,
    )
