"""Bradley-Terry strengths: one scale for more than two models that were compared in pairs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.sparse.csgraph import connected_components
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM
from statsmodels.tools.sm_exceptions import PerfectSeparationWarning

from fairlead.records import Interval
from fairlead.statistics.intervals import Floats, Labels, check_level, cluster_codes, same_length, within


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
    comparable = _connected(i, j, y, len(names), names.index(reference))
    in_component = comparable[i] & comparable[j]
    codes = np.unique(cluster_codes(clusters, len(y))[in_component], return_inverse=True)[1]
    free = [number for number, name in enumerate(names) if comparable[number] and name != reference]
    design = np.zeros((len(y), len(names)))
    design[np.arange(len(y)), i], design[np.arange(len(y)), j] = 1.0, -1.0
    strength, error = _fit(design[in_component][:, free], y[in_component], codes)
    comparisons = np.bincount(np.concatenate([i, j]), minlength=len(names))
    unconnected = "undefined: no chain of wins and of losses to the reference"
    intervals = {
        name: Interval(None, None, None, int(n), unconnected) for name, n in zip(names, comparisons, strict=True)
    }
    intervals[reference] = Interval(0.0, 0.0, 0.0, int(comparisons[names.index(reference)]), "reference")
    fitted = np.bincount(np.concatenate([i[in_component], j[in_component]]), minlength=len(names))
    for at, number in enumerate(free):
        groups = int(codes.max()) + 1
        intervals[names[number]] = _interval(float(strength[at]), float(error[at]), groups, int(fitted[number]), level)
    return intervals


def _interval(strength: float, error: float, groups: int, n: int, level: float) -> Interval:
    if groups < 2:
        return Interval(strength, None, None, n, "undefined: one cluster")
    if error < 1e-6:  # what rounding leaves of a variance of 0
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
    """Strengths by a fractional logit, and their sandwich standard errors over clusters."""
    if design.shape[1] == 0:
        return np.zeros(0), np.zeros(0)
    clusters = {"groups": codes, "use_correction": False, "df_correction": False}
    with warnings.catch_warnings():
        # A perfect fit, as of nothing but ties, is no separation: models that would be separated are left out before.
        warnings.simplefilter("ignore", PerfectSeparationWarning)
        model = GLM(y, design, family=Binomial())
        fit = model.fit(cov_type="cluster", cov_kwds=clusters, tol=1e-12, tol_criterion="params")
    groups = int(codes.max()) + 1
    variance = np.diag(fit.cov_params()) * groups / max(groups - 1, 1)
    return np.asarray(fit.params), np.sqrt(np.clip(variance, 0, None))
