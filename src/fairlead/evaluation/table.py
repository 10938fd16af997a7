"""Rows of the comparison: means, paired differences and win rates with intervals, and the word that each may be called.

Pure functions on values that the `eval` stage collected.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from fairlead.judges.missing_verdicts import by_state
from fairlead.records import Interval, Verdict
from fairlead.statistics.intervals import bounded_mean_interval, mean_interval, missing_bounds, paired_difference
from fairlead.statistics.power import smallest_detectable_difference
from fairlead.statistics.tests import holm, permutation_test, sign_test
from fairlead.statistics.win_rate import length_adjusted_win_rate, win_rate

SCORE_BOUNDS = (1.0, 10.0)
LEVEL = 0.95
_SEED = 0

Values = dict[str, list[float | None]]  # by view, one value per prompt, None where undefined or missing


def table_row(
    metric: str,
    values: Mapping[str, Sequence[float | None]],
    clusters: Sequence[str],
    *,
    judged: bool = False,
) -> dict[str, Any]:
    """A row of the table: the views' means and Δ DPO over SFT, each with its 95 % interval, on the same `n` prompts.

    Those are the prompts for which every view has a value. `base`, `sft` and `dpo` are means, `<view>_low` and
    `<view>_high` their ends; Δ is paired by prompt.
    `delta_worst` and `delta_best` are what Δ would be if every missing score took its worst or best value; None for
    a check, which is undefined for a prompt and never missing. `detectable` is the smallest true difference that so
    many prompts with this spread show in 8 of 10 evaluations; `p` is of the sign-flip test of the differences.
    `sft_over_base` holds the same figures of SFT over the base.

    Args:
        values: by view, one value per prompt; None where the metric is undefined or the score is missing.
        clusters: cluster of every prompt.
        judged: scores of a judge from 1 to 10; else a check from 0 to 1.
    """
    row: dict[str, Any] = {"metric": metric}
    common = [all(v is not None for v in each) for each in zip(*values.values(), strict=True)]
    for view in ("base", "sft", "dpo"):
        mine = values.get(view, [None] * len(clusters))
        held = [(v, c) for v, c, counts in zip(mine, clusters, common, strict=True) if v is not None and counts]
        mean = _mean([v for v, _ in held], [c for _, c in held], judged=judged)
        row |= {view: mean.value, f"{view}_low": mean.low, f"{view}_high": mean.high}
    reference = "sft" if "sft" in values else "base"
    row |= difference_figures(values["dpo"], values[reference], clusters, judged=judged, held=common)
    row["against"] = reference
    trained = {"sft", "base"} <= values.keys()
    row["sft_over_base"] = (
        difference_figures(values["sft"], values["base"], clusters, judged=judged, held=common) if trained else None
    )
    return row


def _mean(values: Sequence[float], clusters: Sequence[str], *, judged: bool) -> Interval:
    if judged and len(set(values)) > 1:
        return mean_interval(values, clusters)
    return bounded_mean_interval(values, *(SCORE_BOUNDS if judged else (0.0, 1.0)), clusters)


def difference_figures(
    new: Sequence[float | None],
    old: Sequence[float | None],
    clusters: Sequence[str],
    *,
    judged: bool = False,
    held: Sequence[bool] | None = None,
) -> dict[str, Any]:
    """Figures of the mean of new - old over the prompts that have both.

    Args:
        held: which prompts count at all; all of them if None.
    """
    kept = held if held is not None else [True] * len(new)
    rows = zip(new, old, clusters, kept, strict=True)
    both = [(n, o, c) for n, o, c, counts in rows if n is not None and o is not None and counts]
    after, before, groups = ([item[at] for item in both] for at in range(3))
    # The t interval that scores have is undefined where all differences are equal; the score interval is not.
    equal = len({round(n - o, 9) for n, o, _ in both}) < 2
    bounds = SCORE_BOUNDS if judged and equal else None if judged else (0.0, 1.0)
    difference = paired_difference(after, before, groups, bounds=bounds)
    test = permutation_test(np.subtract(after, before), np.random.default_rng(_SEED), groups)
    worst, best = _extremes(new, old) if judged else (None, None)
    return {
        "delta": difference.value,
        "delta_low": difference.low,
        "delta_high": difference.high,
        "n": difference.n,
        "missing": len(new) - difference.n,
        "word": word(difference),
        "detectable": detectable(difference),
        "delta_worst": worst,
        "delta_best": best,
        "p": test.p,
    }


def _extremes(new: Sequence[float | None], old: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Mean difference with missing scores at their ends (Manski 1989)."""
    low, high = SCORE_BOUNDS
    ends = [
        ((low if n is None else n) - (high if o is None else o), (high if n is None else n) - (low if o is None else o))
        for n, o in zip(new, old, strict=True)
    ]
    if not ends:
        return None, None
    return sum(e[0] for e in ends) / len(ends), sum(e[1] for e in ends) / len(ends)


def with_holm(table: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with `p_holm`, their p-values after Holm's correction over all of them; None where there is no p."""
    adjusted = iter(holm([row["p"] for row in table if row["p"] is not None]).tolist())
    return [{**row, "p_holm": None if row["p"] is None else next(adjusted)} for row in table]


def spread(interval: Interval, level: float = LEVEL) -> float | None:
    """Standard deviation of one value that an interval of this width and n comes from; clusters are counted in."""
    if interval.low is None or interval.high is None or interval.high <= interval.low:
        return None
    critical = float(stats.norm.isf((1 - level) / 2))
    return (interval.high - interval.low) / 2 / critical * math.sqrt(interval.n)


def detectable(interval: Interval) -> float | None:
    """Smallest true difference that would have been seen with a power of 80 %, given the interval's width."""
    sd = spread(interval)
    return None if sd is None else smallest_detectable_difference(interval.n, sd)


def word(difference: Interval, even: float = 0.0) -> str:
    """What a difference from `even` may be called; one inside the noise is called one."""
    if difference.low is None or difference.high is None:
        return "undefined"
    if difference.low > even:
        return "better"
    if difference.high < even:
        return "worse"
    seen = detectable(difference)
    return "no difference shown" + ("" if seen is None else f" (could have seen ±{seen:.3f})")


def pairwise_figures(
    verdicts: Sequence[Verdict],
    clusters: Sequence[str],
    lengths: Sequence[int] | None = None,
    other_lengths: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Win rate of the first over the second (ties count half) with its 95 % interval, and the count of every state.

    Every pair that was judged counts, with the mean of its orders: a pair whose orders contradict each other counts
    half. `consistent` is the win rate over the pairs whose orders agree alone; `pooled` is over the single votes of
    all orders, grouped by prompt. `worst` and `best` are the win rate if every missing verdict were a loss, and if
    every one were a win. `length_adjusted` is the win rate at equal length (not AlpacaEval's leaderboard figure).

    Args:
        lengths, other_lengths: characters of the first's and the second's answers, in the order of the verdicts.
    """
    counts = Counter(verdict.state for verdict in verdicts)
    missing = sum(verdict.missing for verdict in verdicts)
    found = [(value, number) for number, v in enumerate(verdicts) if (value := v.outcome) is not None]
    outcomes, places = [value for value, _ in found], [number for _, number in found]
    groups = [clusters[number] for number in places]
    rate = win_rate(outcomes, groups)
    bounds = missing_bounds(outcomes, missing)
    agreed = [(value, clusters[number]) for value, number in found if verdicts[number].decided]
    figures = {
        "win_rate": rate.value,
        "low": rate.low,
        "high": rate.high,
        "n": rate.n,
        "missing": missing,
        "states": by_state(counts),
        "word": word(rate, even=0.5),
        "detectable": detectable(rate),
        "worst": bounds.worst,
        "best": bounds.best,
        "consistent": ends(win_rate([value for value, _ in agreed], [group for _, group in agreed])),
        "pooled": ends(_pooled([verdicts[number] for number in places], groups)),
        "sign_test_p": sign_test(sum(o > 0.5 for o in outcomes), sum(o < 0.5 for o in outcomes)).p,
    }
    if lengths is not None and other_lengths is not None:
        mine, theirs = ([texts[number] for number in places] for texts in (lengths, other_lengths))
        rng = np.random.default_rng(_SEED)
        adjusted = length_adjusted_win_rate(outcomes, mine, theirs, rng, groups)
        figures["length_adjusted"] = ends(adjusted)
    return figures


def _pooled(judged: Sequence[Verdict], clusters: Sequence[str]) -> Interval:
    """Win rate over single votes. A verdict without orders (equal answers) has as many votes as the others."""
    most = max((len(verdict.orders) for verdict in judged), default=0) or 1
    votes = [verdict.votes for verdict in judged]
    every = [(v, c) for mine, c in zip(votes, clusters, strict=True) for v in mine * (most // len(mine))]
    return win_rate([vote for vote, _ in every], [cluster for _, cluster in every])


def ends(interval: Interval) -> dict[str, Any]:
    return {
        "value": interval.value,
        "low": interval.low,
        "high": interval.high,
        "n": interval.n,
        "method": interval.method,
    }
