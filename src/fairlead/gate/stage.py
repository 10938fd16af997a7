"""The `gate` stage: whether the evidence allows a release. Passed, failed, or not enough evidence, for every candidate.

Criteria are written for DPO. SFT is judged by the same, with SFT in DPO's place and the base in SFT's; what speaks of
DPO's own training does not concern it. So the gate can say: release SFT, drop DPO.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from fairlead.config.release import Criterion
from fairlead.config.stage_settings import GateSettings
from fairlead.errors import ConfigError, some
from fairlead.evaluation.caveats import NAMES
from fairlead.files import dump_json, read_json, write_atomic, write_json
from fairlead.gate.output import gate_markdown, junit
from fairlead.judges.qualification.model_families import SHARED_JUDGE
from fairlead.pipeline import outputs as files
from fairlead.pipeline.artifacts import Manifest, package_versions
from fairlead.pipeline.stage import Context, Metrics
from fairlead.records import Preference, content_id
from fairlead.statistics.power import prompts_needed
from fairlead.text.near_duplicates import asked, overlaps

Status = Literal["passed", "failed", "insufficient"]
EXIT_CODES: dict[Status, int] = {"passed": 0, "failed": 1, "insufficient": 2}
DPO_ONLY = ("training.", "probe.")
_COMPARED = ("table.", "pairwise.", "metrics_worse", "metrics_better")

_HOLDS = {
    "above": lambda value, bound: value > bound,
    "at_least": lambda value, bound: value >= bound,
    "below": lambda value, bound: value < bound,
    "at_most": lambda value, bound: value <= bound,
}


def run(context: Context[GateSettings]) -> Metrics:
    """Writes gate.json (the record), gate.md and gate.xml (JUnit): status, criteria, and hashes of what was judged."""
    section = context.settings.gate
    for artifact in context.inputs.artifacts.values():
        artifact.verify()
    manifests = context.inputs.manifests()
    comparison = context.read(files.COMPARISON)
    figures = known_figures(
        comparison,
        leaks=count_leaks(context),
        data=pair_faults(context.read(files.TRAIN_PAIRS), context.read(files.VALIDATION_PAIRS)),
        data_check=_data_check(context),
        training={name: manifests[name].figures for name in ("sft", "pairs", "dpo") if name in manifests},
        probe=context.read(files.DRIFT).content() if context.inputs.has(files.DRIFT) else {},
    )
    criteria = context.settings.criteria
    candidates = judge_candidates(criteria, section.min_prompts, figures)
    dpo = candidates["dpo"]
    record = {
        "status": dpo["status"],
        "criteria": dpo["criteria"],
        "candidates": candidates,
        "advice": advice({name: candidate["status"] for name, candidate in candidates.items()}),
        "prompts": comparison["prompts"],
        "judge": comparison["judge"],
        "judged": {name: manifest.hash for name, manifest in sorted(manifests.items())},
        "eval_prompts": manifests["prepare"].files["eval.jsonl"],
        "adapter": weights(manifests["dpo"]),
        "adapters": {name: weights(manifests[name]) for name in ("sft", "dpo") if name in manifests},
        "template": template_hash(context.inputs.path(files.DPO_MODEL), manifests["dpo"]),
        "config": section.model_dump(mode="json") | {"criteria": [c.model_dump(mode="json") for c in criteria]},
        "waived": context.settings.waived,
        "config_hash": content_id({name: manifest.config for name, manifest in sorted(manifests.items())}),
        "versions": package_versions(),
    }
    write_json(context.out / "gate.json", record)
    write_atomic(context.out / "gate.md", gate_markdown(record))
    write_atomic(context.out / "gate.xml", junit(record))
    return {"status": dpo["status"], "advice": record["advice"]}


def weights(manifest: Manifest) -> dict[str, str]:
    """SHA-256 of every file of a trained model."""
    return {name: digest for name, digest in manifest.files.items() if name.startswith("model/")}


def template_hash(model: Path, manifest: Manifest) -> str | None:
    """SHA-256 of the chat template that the model is asked with, in a file of its own or in the tokenizer's config."""
    found = manifest.files.get("model/chat_template.jinja")
    if found is not None or "model/tokenizer_config.json" not in manifest.files:
        return found
    template = read_json(model / "tokenizer_config.json").get("chat_template")
    if template is None:
        return None
    text = template if isinstance(template, str) else dump_json(template)  # several templates, by name
    return hashlib.sha256(text.encode()).hexdigest()


def count_leaks(context: Context[GateSettings]) -> int:
    """Training prompts that are eval prompts or near-duplicates of one, compared by content once more."""
    held = [asked(prompt) for prompt in context.read(files.EVAL_PROMPTS)]
    trained = [asked(example.prompt) for example in context.read(files.SFT_ROWS)]
    for output in (files.TRAIN_PAIRS, files.VALIDATION_PAIRS):
        trained += [asked(pair.prompt) for pair in context.read(output)]
    return len(overlaps(trained, held, context.settings.similarity))


def pair_faults(train: Sequence[Preference], validation: Sequence[Preference]) -> dict[str, int]:
    """Pairs that teach nothing or the wrong thing, and prompts on both sides of the split."""
    both = [*train, *validation]
    directions = {(p.prompt.id, p.chosen, p.rejected) for p in both}
    found = {
        "equal_answers": sum(p.chosen.strip() == p.rejected.strip() for p in both),
        "empty_chosen": sum(not p.chosen.strip() for p in both),
        "contradicted": sum((p.prompt.id, p.rejected, p.chosen) in directions for p in both if p.chosen != p.rejected),
        "train_in_validation": len({p.prompt.id for p in train} & {p.prompt.id for p in validation}),
    }
    return {**found, "failed": sum(found.values())}


def known_figures(
    comparison: Mapping[str, Any],
    *,
    leaks: int,
    data: Mapping[str, int],
    data_check: Mapping[str, int],
    training: Mapping[str, Any],
    probe: Mapping[str, Any],
) -> dict[str, Any]:
    """Every figure that a criterion may name, as nested mappings."""
    table = {row["metric"]: row for row in comparison["table"]}
    given = Counter(warning["name"] for warning in comparison["warnings"])
    warned = {name: given[name] for name in (*NAMES, SHARED_JUDGE, *given)}
    return {
        "table": table,
        "pairwise": comparison["pairwise"],
        "missing": comparison["missing"],
        "verdicts": 1 - comparison["missing"],
        "prompts": comparison["prompts"],
        **_credible(table),
        "leaks": leaks,
        SHARED_JUDGE: warned[SHARED_JUDGE],
        "warnings": warned,
        "answers": comparison["answers"],
        "data": dict(data),
        "data_check": dict(data_check),
        "training": dict(training),
        "probe": dict(probe),
    }


def _credible(table: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """How many declared metrics have their whole interval below 0, and above it."""
    ends = [(row["delta_low"], row["delta_high"]) for row in table.values() if row["delta_low"] is not None]
    return {"metrics_worse": sum(high < 0 for _, high in ends), "metrics_better": sum(low > 0 for low, _ in ends)}


def _data_check(context: Context[GateSettings]) -> dict[str, int]:
    """How many checks of the pairs failed (all of them waived, or training would not have begun), and warned."""
    findings = context.read(files.DATA_CHECK).findings
    states = Counter(finding.status for finding in findings)
    return {"failed": states["fail"], "warned": states["warn"]}


def with_sft_in_place(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The figures as if SFT were the candidate and the base what it is compared with."""
    table = {name: _sft_row(row) for name, row in figures["table"].items()}
    missing: dict[str, Any] = {"win_rate": None, "low": None, "high": None, "n": 0}
    over_base = figures["pairwise"].get("sft_vs_base", missing)
    pairwise = {**figures["pairwise"], "dpo_vs_sft": over_base, "dpo_vs_base": over_base}
    before = figures["answers"]
    answers = {**before, **{new: before[old] for new, old in (("dpo", "sft"), ("sft", "base")) if old in before}}
    return {**figures, "table": table, "pairwise": pairwise, "answers": answers, **_credible(table)}


def _sft_row(row: Mapping[str, Any]) -> dict[str, Any]:
    moved = {
        f"{new}{end}": row.get(f"{old}{end}")
        for new, old in (("dpo", "sft"), ("sft", "base"))
        for end in ("", "_low", "_high")
    }
    return {**row, **moved, **(row.get("sft_over_base") or {})}


def judge_candidates(
    criteria: Sequence[Criterion], min_prompts: int, figures: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Status and criteria of dpo, and of sft where there is one."""
    judged = {"dpo": _candidate(criteria, figures, min_prompts)}
    if "sft" in figures["training"]:
        concerned = [c for c in criteria if not c.figure.startswith(DPO_ONLY)]
        judged["sft"] = _candidate(concerned, with_sft_in_place(figures), min_prompts)
    return judged


def _candidate(criteria: Sequence[Criterion], figures: Mapping[str, Any], min_prompts: int) -> dict[str, Any]:
    found = [judge_criterion(criterion, figures, min_prompts=min_prompts) for criterion in criteria]
    return {"status": overall([criterion["status"] for criterion in found]), "criteria": found}


def advice(statuses: Mapping[str, Status]) -> str:
    """What to do with the candidates, in a few words."""
    if statuses["dpo"] == "passed":
        return "release dpo"
    if statuses.get("sft") == "passed":
        return "release sft, drop dpo" if statuses["dpo"] == "failed" else "release sft; dpo needs more evidence"
    if "insufficient" in statuses.values():
        waiting = [name for name, status in statuses.items() if status == "insufficient"]
        return f"release nothing yet; {' and '.join(waiting)} need{'s' * (len(waiting) == 1)} more evidence"
    return "release nothing"


def judge_criterion(criterion: Criterion, figures: Mapping[str, Any], *, min_prompts: int) -> dict[str, Any]:
    """One criterion with its figure, its status, and, where evidence is short, what would be enough.

    A bound on an interval's end that the estimate itself meets is short of evidence, not failed.

    Raises:
        ConfigError: if there is no such figure.
    """
    path, bounds, shown = _demand(criterion)
    value, parent = _look_up(path, figures)
    result: dict[str, Any] = {"figure": criterion.figure, "value": value, **shown, "reason": ""}
    compared = path.startswith(_COMPARED)
    prompts = figures["prompts"]
    counted = min(prompts, parent.get("n", prompts))
    if value is None:
        return {**result, "status": "insufficient", "reason": "the figure is undefined"}
    if compared and counted < min_prompts:
        what = f"{prompts} eval prompts" if counted == prompts else f"{counted} of {prompts} eval prompts"
        reason = f"it rests on {what}, at least {min_prompts} are wanted (gate.min_prompts)"
        return {**result, "status": "insufficient", "reason": reason}
    if all(_HOLDS[name](value, bound) for name, bound in bounds.items()):
        return {**result, "status": "passed"}
    needed = _needed(path, bounds, parent, prompts if compared else None)
    if needed is not None:
        return {**result, "status": "insufficient", "reason": needed}
    return {**result, "status": "failed"}


def _demand(criterion: Criterion) -> tuple[str, dict[str, float], dict[str, float]]:
    """The figure that decides, its bounds, and the bounds as the criterion writes them.

    Non-inferiority by a margin is a bound on the lower end of the interval (`statistics.non_inferiority`): of the
    difference, -margin; of the win rate, ½ - margin.
    """
    margin = criterion.not_worse_by
    if margin is None:
        return criterion.figure, criterion.bounds, criterion.bounds
    shown = {"not_worse_by": margin}
    if criterion.figure.startswith("table."):
        return f"{criterion.figure}.delta_low", {"above": -margin}, shown
    return f"{criterion.figure}.low", {"above": 0.5 - margin}, shown


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


def _needed(path: str, bounds: Mapping[str, float], parent: Mapping[str, Any], prompts: int | None) -> str | None:
    """How many prompts would settle a bound on an interval's end that the estimate meets; None if it does not.

    Args:
        prompts: eval prompts that the figure's n comes from; None for a figure that rests on something else.
    """
    name = path.rsplit(".", 1)[-1]
    prefix = name.removesuffix("low").removesuffix("high")
    estimate = parent.get(prefix.removesuffix("_")) if prefix else parent.get("win_rate", parent.get("value"))
    low, high = parent.get(f"{prefix}low"), parent.get(f"{prefix}high")
    if name not in (f"{prefix}low", f"{prefix}high") or estimate is None or low is None or high is None:
        return None
    if not all(_HOLDS[bound](estimate, limit) for bound, limit in bounds.items()):
        return None
    n = int(parent["n"])
    spread = (high - low) / 2 / 1.96 * math.sqrt(n)
    gap = min(abs(estimate - limit) for limit in bounds.values())
    wanted = prompts_needed(gap, spread) if gap > 0 and spread > 0 else None
    unit = "values" if prompts is None else "prompts"
    share = 1.0 if prompts is None else prompts / n  # a figure may rest on some of the prompts only
    more = f"about {math.ceil(wanted * share)} {unit} would show it" if wanted else f"no number of {unit} would show it"
    on = n if prompts is None else prompts
    return f"the estimate {estimate:.3f} meets the bound, its interval does not on {on} {unit}: {more}"


def overall(statuses: Sequence[Status]) -> Status:
    """Failed if any failed, else insufficient if any is or there are none, else passed."""
    if "failed" in statuses:
        return "failed"
    return "insufficient" if "insufficient" in statuses or not statuses else "passed"
