"""What a comparison can show, said before anybody is paid for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fairlead.evaluation.statistics import smallest_detectable_difference, win_rate_sd


def plan(clusters: Sequence[str]) -> dict[str, Any]:
    """The smallest true distance of a win rate from 50 % that these prompts show in 8 of 10 evaluations.

    Two figures, because how much prompts of one cluster hang together is not known before: `at_best` if not at all,
    `at_worst` if each cluster counts as one prompt. Without ties, which would make both smaller. None where nothing
    can be shown.

    Args:
        clusters: cluster of every prompt.
    """
    prompts, groups = len(clusters), len(set(clusters))
    best, worst = (smallest_detectable_difference(n, win_rate_sd()) for n in (prompts, groups))
    return {"prompts": prompts, "clusters": groups, "at_best": _possible(best), "at_worst": _possible(worst)}


def _possible(difference: float | None) -> float | None:
    """A win rate cannot lie further than a half from 50 %."""
    return difference if difference is not None and difference < 0.5 else None


def plan_line(planned: dict[str, Any]) -> str:
    """The plan as one sentence."""
    prompts, groups = planned["prompts"], planned["clusters"]
    best, worst = planned["at_best"], planned["at_worst"]
    if best is None:
        return f"{prompts} prompts can show no win rate at all: give more before a judge is paid"
    said = f"{prompts} prompts can show a win rate of {0.5 + best:.1%} or more (or {0.5 - best:.1%} or less)"
    if groups == prompts:
        return said
    far = "none" if worst is None else f"{0.5 + worst:.1%} or more"
    return f"{said}; if prompts of one cluster ({groups} clusters) behave alike, {far}"
