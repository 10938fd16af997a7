"""The `gate` stage: whether the evidence allows a release. Passed, failed, or not enough evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from fairlead.config import Criterion, DataSection, GateSection
from fairlead.errors import ConfigError, some
from fairlead.evaluation.statistics import prompts_needed
from fairlead.files import read_json, write_json
from fairlead.preferences import rows
from fairlead.preferences.near_duplicates import asked, overlaps
from fairlead.stages import Context, Figures

Status = Literal["passed", "failed", "insufficient"]
EXIT_CODES: dict[Status, int] = {"passed": 0, "failed": 1, "insufficient": 2}

_HOLDS = {
    "above": lambda value, bound: value > bound,
    "at_least": lambda value, bound: value >= bound,
    "below": lambda value, bound: value < bound,
    "at_most": lambda value, bound: value <= bound,
}


def run(context: Context) -> Figures:
    """Writes gate.json: the status, each criterion with its figure, and the hashes of what was judged."""
    section: GateSection = context.section("gate")
    comparison = read_json(context.inputs["eval"].file("comparison.json"))
    figures = known_figures(comparison, leaks=count_leaks(context), stages=context.inputs)
    criteria = [judge_criterion(c, figures, min_prompts=section.min_prompts) for c in section.criteria]
    status = overall([c["status"] for c in criteria])
    record = {
        "status": status,
        "criteria": criteria,
        "prompts": comparison["prompts"],
        "judge": comparison["judge"],
        "judged": {name: artifact.hash for name, artifact in sorted(context.inputs.items())},
        "eval_prompts": context.inputs["prepare"].manifest.files["eval.jsonl"],
        "adapter": {k: v for k, v in context.inputs["dpo"].manifest.files.items() if k.startswith("model/")},
        "config": section.model_dump(mode="json"),
    }
    write_json(context.out / "gate.json", record)
    return {"status": status}


def count_leaks(context: Context) -> int:
    """Training prompts that are eval prompts or near-duplicates of one, compared by content once more."""
    data: DataSection = context.section("data")
    prepared, pairs = context.inputs["prepare"], context.inputs["pairs"]
    held = [asked(prompt) for prompt in rows.prompts(prepared.file("eval.jsonl"))]
    trained = [asked(example.prompt) for example in rows.examples(prepared.file("sft.jsonl"))]
    for name in ("train.jsonl", "validation.jsonl"):
        trained += [asked(pair.prompt) for pair in rows.preferences(pairs.file(name))]
    return len(overlaps(trained, held, data.similarity))


def known_figures(comparison: Mapping[str, Any], *, leaks: int, stages: Mapping[str, Any]) -> dict[str, Any]:
    """Every figure that a criterion may name, as nested mappings."""
    return {
        "table": {row["metric"]: row for row in comparison["table"]},
        "pairwise": comparison["pairwise"],
        "missing": comparison["missing"],
        "prompts": comparison["prompts"],
        "leaks": leaks,
        "training": {n: dict(stages[n].manifest.figures) for n in ("sft", "pairs", "dpo") if n in stages},
    }


def judge_criterion(criterion: Criterion, figures: Mapping[str, Any], *, min_prompts: int) -> dict[str, Any]:
    """One criterion with its figure, its status, and, where evidence is short, what would be enough.

    A bound on an interval's end that the estimate itself meets is short of evidence, not failed.

    Raises:
        ConfigError: if there is no such figure.
    """
    value, parent = _look_up(criterion.figure, figures)
    result: dict[str, Any] = {"figure": criterion.figure, "value": value, **criterion.bounds, "reason": ""}
    compared = criterion.figure.startswith(("table.", "pairwise."))
    if value is None:
        return {**result, "status": "insufficient", "reason": "the figure is undefined"}
    if compared and figures["prompts"] < min_prompts:
        reason = f"{figures['prompts']} eval prompts, at least {min_prompts} are wanted (gate.min_prompts)"
        return {**result, "status": "insufficient", "reason": reason}
    if all(_HOLDS[name](value, bound) for name, bound in criterion.bounds.items()):
        return {**result, "status": "passed"}
    needed = _needed(criterion, parent)
    if needed is not None:
        return {**result, "status": "insufficient", "reason": needed}
    return {**result, "status": "failed"}


def _look_up(path: str, figures: Mapping[str, Any]) -> tuple[float | None, Mapping[str, Any]]:
    node: Any = figures
    parent: Mapping[str, Any] = figures
    for part in path.split("."):
        if not isinstance(node, Mapping) or part not in node:
            known = some(node, 12) if isinstance(node, Mapping) else "nothing below it"
            raise ConfigError(
                f"there is no figure {path}", where="gate.criteria", remedy=f"at {part} there are: {known}"
            )
        parent, node = node, node[part]
    if node is not None and (isinstance(node, bool) or not isinstance(node, int | float)):
        raise ConfigError(f"the figure {path} is no number", where="gate.criteria")
    return node, parent


def _needed(criterion: Criterion, parent: Mapping[str, Any]) -> str | None:
    """How many prompts would settle a bound on an interval's end that the estimate meets; None if it does not."""
    name = criterion.figure.rsplit(".", 1)[-1]
    prefix = name.removesuffix("low").removesuffix("high")
    estimate = parent.get("delta" if prefix == "delta_" else "win_rate")
    low, high = parent.get(f"{prefix}low"), parent.get(f"{prefix}high")
    if name not in (f"{prefix}low", f"{prefix}high") or estimate is None or low is None or high is None:
        return None
    if not all(_HOLDS[bound](estimate, limit) for bound, limit in criterion.bounds.items()):
        return None
    n = int(parent["n"])
    spread = (high - low) / 2 / 1.96 * math.sqrt(n)
    gap = min(abs(estimate - limit) for limit in criterion.bounds.values())
    wanted = prompts_needed(gap, spread) if gap > 0 and spread > 0 else None
    more = f"about {wanted} prompts would show it" if wanted else "no number of prompts would show it"
    return f"the estimate {estimate:.3f} meets the bound, its interval does not on {n} prompts: {more}"


def overall(statuses: list[Status]) -> Status:
    """Failed if any failed, else insufficient if any is, else passed."""
    if "failed" in statuses:
        return "failed"
    return "insufficient" if "insufficient" in statuses else "passed"
