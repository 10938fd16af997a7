"""How many independent votes a panel of raters is worth, whose errors go together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairlead.records import Interval
from fairlead.statistics.intervals import Labels, check_level, cluster_codes

_DRAWS = 1000


def effective_votes(
    errors: ArrayLike, rng: np.random.Generator, clusters: Labels | None = None, level: float = 0.95
) -> Interval:
    """Kish's effective sample size of a panel's votes, k / (1 + (k - 1) ρ), at least 1 and at most k.

    ρ is the mean correlation of the errors of every two members (Kish 1965, Survey Sampling; used of panels of language
    models in arXiv 2605.29800). A negative mean counts as 0: no panel is worth more than its members. The interval is a
    percentile bootstrap over clusters of items.

    Args:
        errors: [members, items], 1 where a member is wrong and 0 where it is right.
        clusters: of every item; each is its own if None.

    Returns:
        Undefined (None) where no two members err on some items and not on others.
    """
    check_level(level)
    table = np.asarray(errors, dtype=np.float64)
    items = int(table.shape[1])
    value = _votes(table)
    if value is None:
        return Interval(
            None, None, None, items, "undefined: no two members are wrong on some items and right on others"
        )
    codes = cluster_codes(clusters, items)
    of_cluster = [np.flatnonzero(codes == code) for code in range(int(codes.max()) + 1)]
    drawn = [_votes(table[:, _resampled(of_cluster, rng)]) for _ in range(_DRAWS)]
    known = [votes for votes in drawn if votes is not None]
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(known, [tail, 100 - tail])
    return Interval(value, float(low), float(high), items, f"bootstrap over {len(of_cluster)} clusters")


def _resampled(of_cluster: Sequence[NDArray[np.intp]], rng: np.random.Generator) -> NDArray[np.intp]:
    return np.concatenate([of_cluster[n] for n in rng.integers(0, len(of_cluster), len(of_cluster))])


def _votes(table: NDArray[np.float64]) -> float | None:
    varying = table[table.std(axis=1) > 0]
    if len(varying) < 2:
        return None
    correlations = np.corrcoef(varying)
    mean = float(correlations[np.triu_indices(len(varying), 1)].mean())
    members = len(table)
    return members / (1 + (members - 1) * max(mean, 0.0))
