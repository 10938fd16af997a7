"""Criteria against figures: passed, failed, or not enough evidence, and what would be enough.

Criteria are written for DPO. SFT is judged by the same, with SFT in DPO's place and the base in SFT's; what speaks of
DPO's own training does not concern it. So the gate can say: release SFT, drop DPO.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from fairlead.config.release import NOT_WORSE_THAN_PROMPTED, Criterion
from fairlead.documents.evaluation import PairResult
from fairlead.documents.gate import Candidate, CandidateResult, CriterionResult, Status
from fairlead.gate.figures import FigureTree, is_compared, look_up, path_for
from fairlead.records import ModelPair
from fairlead.statistics.power import prompts_needed

DPO_ONLY = ("training.", "probe.", "slices.")
EXIT_CODES: dict[Status, int] = {"passed": 0, "failed": 1, "insufficient": 2}

_HOLDS: dict[str, Callable[[float, float], bool]] = {
    "above": lambda value, bound: value > bound,
    "at_least": lambda value, bound: value >= bound,
    "below": lambda value, bound: value < bound,
    "at_most": lambda value, bound: value <= bound,
}


def judge_candidate(
    criteria: Sequence[Criterion], figures: FigureTree, pair: ModelPair, *, min_prompts: int
) -> CandidateResult:
    """The criteria of `pair`'s candidate, and what follows from them together."""
    concerned = [c for c in criteria if pair.candidate == "dpo" or not c.figure.startswith(DPO_ONLY)]
    results = tuple(judge_criterion(c, figures, pair, min_prompts=min_prompts) for c in concerned)
    return CandidateResult(status=overall([result.status for result in results]), criteria=results)


def overall(statuses: Sequence[Status]) -> Status:
    """Failed if any failed, else insufficient if any is or there are none, else passed."""
    if "failed" in statuses:
        return "failed"
    return "insufficient" if "insufficient" in statuses or not statuses else "passed"


def is_enough(over_prompted: PairResult | None) -> bool:
    """Whether the best prompt is shown to be as good as DPO: the win rate of DPO over it is below the margin."""
    high = None if over_prompted is None else over_prompted.win_rate.high
    return high is not None and high < 0.5 + NOT_WORSE_THAN_PROMPTED


def advice(statuses: Mapping[Candidate, Status], *, prompting: bool = False) -> str:
    """What to do with the candidates, in a few words.

    Args:
        prompting: whether the best prompt is as good as DPO.
    """
    if prompting and "passed" not in statuses.values():
        return "release nothing: prompting is as good"
    if statuses["dpo"] == "passed":
        return "release dpo"
    if statuses.get("sft") == "passed":
        return "release sft, drop dpo" if statuses["dpo"] == "failed" else "release sft; dpo needs more evidence"
    if "insufficient" in statuses.values():
        waiting = [name for name, status in statuses.items() if status == "insufficient"]
        return f"release nothing yet; {' and '.join(waiting)} need{'s' * (len(waiting) == 1)} more evidence"
    return "release nothing"


def judge_criterion(criterion: Criterion, figures: FigureTree, pair: ModelPair, *, min_prompts: int) -> CriterionResult:
    """One criterion, asked of `pair`'s candidate, with its figure and, where evidence is short, what would be enough.

    A bound on an interval's end that the estimate itself meets is short of evidence, not failed.

    Raises:
        ConfigError: if there is no such figure.
    """
    deciding, bounds = _bounds(criterion)
    metrics = _names_below("table", figures)
    path = path_for(deciding, pair, metrics)
    value, siblings = look_up(path, figures)

    def result(status: Status, reason: str = "") -> CriterionResult:
        demands = criterion.bounds if criterion.not_worse_by is None else {"not_worse_by": criterion.not_worse_by}
        figure = path_for(criterion.figure, pair, metrics)
        return CriterionResult(figure=figure, value=value, status=status, reason=reason, **demands)

    if value is None:
        return result("insufficient", "the figure is undefined")
    prompts = _number(figures["prompts"])
    compared = is_compared(path)
    counted = min(prompts, _number(siblings.get("n", prompts)))
    if compared and counted < min_prompts:
        what = f"{prompts} eval prompts" if counted == prompts else f"{counted} of {prompts} eval prompts"
        return result("insufficient", f"it rests on {what}, at least {min_prompts} are needed (gate.min_prompts)")
    if all(_HOLDS[name](value, bound) for name, bound in bounds.items()):
        return result("passed")
    needed = _needed(path, bounds, siblings, prompts if compared else None)
    return result("failed") if needed is None else result("insufficient", needed)


def _bounds(criterion: Criterion) -> tuple[str, Mapping[str, float]]:
    """The figure that decides, and its bounds.

    Non-inferiority by a margin is a bound on the lower end of the interval, one-sided at 2.5 % for a 95 % interval
    (Walker & Nowacki 2011, J. Gen. Intern. Med. 26:192-196): of the difference, -margin; of the win rate, ½ - margin.
    """
    margin = criterion.not_worse_by
    if margin is None:
        return criterion.figure, criterion.bounds
    if criterion.figure.startswith("table."):
        return f"{criterion.figure}.delta_low", {"above": -margin}
    return f"{criterion.figure}.low", {"above": 0.5 - margin}


def _names_below(name: str, figures: FigureTree) -> list[str]:
    node = figures.get(name)
    return list(node) if isinstance(node, Mapping) else []


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"a count is needed, not {value!r}")
    return value


def _needed(path: str, bounds: Mapping[str, float], siblings: FigureTree, prompts: int | None) -> str | None:
    """How many prompts would settle a bound on an interval's end that the estimate meets; None if it does not.

    Args:
        siblings: the figures beside that of `path`, the interval's other end and its n among them.
        prompts: eval prompts that the figure's n comes from; None for a figure that rests on something else.
    """
    name = path.rsplit(".", 1)[-1]
    prefix = name.removesuffix("low").removesuffix("high")
    if name not in (f"{prefix}low", f"{prefix}high"):
        return None
    of_interval = siblings.get(prefix.removesuffix("_")) if prefix else siblings.get("win_rate", siblings.get("value"))
    low, high, n = (siblings.get(key) for key in (f"{prefix}low", f"{prefix}high", "n"))
    if not isinstance(of_interval, float | int) or not isinstance(low, float | int):
        return None
    if not isinstance(high, float | int) or not isinstance(n, int):
        return None
    estimate = float(of_interval)
    if not all(_HOLDS[bound](estimate, limit) for bound, limit in bounds.items()):
        return None
    spread = (high - low) / 2 / 1.96 * math.sqrt(n)
    gap = min(abs(estimate - limit) for limit in bounds.values())
    enough = prompts_needed(gap, spread) if gap > 0 and spread > 0 else None
    unit = "values" if prompts is None else "prompts"
    share = 1.0 if prompts is None else prompts / n  # a figure may rest on some of the prompts only
    more = f"about {math.ceil(enough * share)} {unit} would show it" if enough else f"no number of {unit} would show it"
    on = n if prompts is None else prompts
    return f"the estimate {estimate:.3f} meets the bound, its interval does not on {on} {unit}: {more}"
