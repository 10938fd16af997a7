"""Bradley-Terry strengths: one scale for more than two models that were compared in pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats
from scipy.sparse.csgraph import connected_components

from fairlead.records import Interval
from fairlead.statistics.intervals import Floats, Labels, check_level, cluster_codes, same_length, within

_NEWTON_STEPS = 100


def bradley_terry(
    first: Sequence[str],
    second: Sequence[str],
    outcomes: ArrayLike,
    reference: str,
    clusters: Labels | None = None,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Log-odds of each model to beat `reference`, from all comparisons together (Bradley & Terry 1952).

    logit P(i beats j) = β_i - β_j, β_reference = 0; ties count half, as in a fractional logit. Standard errors are
    the sandwich's (Liang & Zeger 1986) over clusters, times √(G / (G - 1)), with Student's quantile on G - 1
    degrees of freedom. Give the prompt as cluster: the comparisons of one prompt share its answers.

    Undefined (Ford 1957) for a model that is not tied to the reference by wins both ways, directly or through
    others: one that beat all it met would be infinitely strong. Such models are left out of the fit.

    Args:
        first, second: names of the models of each comparison.
        outcomes: in [0, 1], 1 where `first` wins, 0.5 for a tie.
        reference: the model at 0; its own interval is (0, 0, 0).

    Returns:
        One interval for each model, in order of first appearance.
    """
    check_level(level)
    y = within(outcomes, 0.0, 1.0, "outcomes")
    same_length(first, second, "first and second")
    same_length(first, y, "models and outcomes")
    names = list(dict.fromkeys([*first, *second]))
    if reference not in names:
        raise ValueError(f"reference: no comparison has {reference!r}; there are {', '.join(names) or 'none'}")
    i, j = (np.array([names.index(name) for name in side], dtype=np.intp) for side in (first, second))
    if (i == j).any():
        raise ValueError("a model cannot be compared with itself")
    inside = _connected(i, j, y, len(names), names.index(reference))
    kept = inside[i] & inside[j]
    codes = np.unique(cluster_codes(clusters, len(y))[kept], return_inverse=True)[1]
    free = [number for number, name in enumerate(names) if inside[number] and name != reference]
    design = np.zeros((len(y), len(names)))
    design[np.arange(len(y)), i], design[np.arange(len(y)), j] = 1.0, -1.0
    strength, error = _fit(design[kept][:, free], y[kept], codes)
    met = np.bincount(np.concatenate([i, j]), minlength=len(names))
    alone = "undefined: no chain of wins and of losses to the reference"
    found = {name: Interval(None, None, None, int(n), alone) for name, n in zip(names, met, strict=True)}
    found[reference] = Interval(0.0, 0.0, 0.0, int(met[names.index(reference)]), "reference")
    used = np.bincount(np.concatenate([i[kept], j[kept]]), minlength=len(names))
    for at, number in enumerate(free):
        groups = int(codes.max()) + 1
        found[names[number]] = _interval(float(strength[at]), float(error[at]), groups, int(used[number]), level)
    return found


def _interval(strength: float, error: float, groups: int, n: int, level: float) -> Interval:
    if groups < 2:
        return Interval(strength, None, None, n, "undefined: one cluster")
    if error < 1e-9:
        return Interval(strength, None, None, n, "undefined: the outcomes do not vary around the fit")
    half = float(stats.t.isf((1 - level) / 2, groups - 1)) * error
    method = f"Bradley-Terry, cluster-robust t, {groups} clusters"
    return Interval(strength, strength - half, strength + half, n, method)


def _connected(i: NDArray[np.intp], j: NDArray[np.intp], y: Floats, models: int, reference: int) -> NDArray[np.bool_]:
    """Which models share the reference's strongly connected part of the graph "has taken points from"."""
    wins = np.zeros((models, models))
    np.add.at(wins, (i, j), y)
    np.add.at(wins, (j, i), 1 - y)
    _, part = connected_components(wins > 0, connection="strong")
    return np.asarray(part == part[reference])


def _fit(design: Floats, y: Floats, codes: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Newton's method for the fractional logit; strengths and their sandwich standard errors."""
    beta = np.zeros(design.shape[1])
    for _ in range(_NEWTON_STEPS):
        mean = special.expit(design @ beta)
        step = np.linalg.solve(_information(design, mean), design.T @ (y - mean))
        largest = float(np.abs(step).max(initial=0.0))
        if largest < 1e-10:
            break
        beta = beta + step * min(1.0, 2.0 / largest)
    mean = special.expit(design @ beta)
    bread = np.linalg.inv(_information(design, mean))
    groups = int(codes.max(initial=0)) + 1
    scores = np.zeros((groups, len(beta)))
    np.add.at(scores, codes, design * (y - mean)[:, None])
    covariance = bread @ (scores.T @ scores) @ bread * groups / max(groups - 1, 1)
    return beta, np.sqrt(np.clip(np.diag(covariance), 0, None))  # rounding can leave a variance just below 0


def _information(design: Floats, mean: Floats) -> Floats:
    return np.asarray((design * (mean * (1 - mean))[:, None]).T @ design)
