"""The `report` stage: report.json, the interface, report.md, the same for people, and reflection.md, what it means."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from fairlead import escape
from fairlead.config.stage_settings import ReportSettings
from fairlead.decide.markdown import section_markdown as decision_markdown
from fairlead.documents.decision import Decision
from fairlead.evaluation.answers import side_by_side
from fairlead.files import read_text, write_atomic, write_json
from fairlead.gate.output import criteria_markdown, watch_actions
from fairlead.pipeline import outputs as files
from fairlead.pipeline.artifacts import Manifest, package_versions
from fairlead.pipeline.stage import Context, Metrics
from fairlead.records import Completion, VerdictState
from fairlead.report.summary import reflection

SCHEMA = 1
SWEEP = "sweep"  # folder that `fairlead sweep` fills


def run(context: Context[ReportSettings]) -> Metrics:
    """Writes report.json, report.md and reflection.md; the project copies them to its `report` folder."""
    manifests = context.inputs.manifests()
    comparison = context.read(files.COMPARISON)
    gate = context.read(files.GATE_RECORD)
    decision = context.read(files.DECISION)
    report = {
        "schema": SCHEMA,
        "name": context.settings.name,
        "seed": context.seed,
        "table": comparison["table"],
        "pairwise": comparison["pairwise"],
        "decision": decision.content(),
        "prompts": comparison["prompts"],
        "missing": comparison["missing"],
        "judge": comparison["judge"],
        "plan": comparison["plan"],
        "warnings": comparison["warnings"],
        "answers": comparison["answers"],
        "judgements": judgements(comparison, _judge_counts(context)),
        "probe": context.read(files.DRIFT).content() if context.inputs.has(files.DRIFT) else None,
        "gate": {key: gate[key] for key in ("status", "criteria", "candidates", "advice")},
        "figures": {name: manifest.figures for name, manifest in manifests.items()},
        "stages": {
            name: {
                "seconds": manifest.seconds,
                "hash": manifest.hash,
                "artifact": manifest.key,
                **({"watch": context.read(files.DIAGNOSIS).model_dump(mode="json")} if name == "dpo" else {}),
            }
            for name, manifest in manifests.items()
        },
        "lineage": {name: lineage(manifest) for name, manifest in manifests.items()},
        "versions": package_versions(),
    }
    write_json(context.out / "report.json", report)
    samples = _samples(context)
    write_atomic(context.out / "report.md", markdown(report, samples, _sweep(context)))
    write_atomic(context.out / "reflection.md", reflection(report))
    return {"status": gate["status"], "rows": len(comparison["table"])}


def _judge_counts(context: Context[ReportSettings]) -> dict[str, Any]:
    """What became of the comparisons of the pairs; empty in a project that judges none."""
    if not context.inputs.has(files.JUDGE_COUNTS):
        return {}
    return context.read(files.JUDGE_COUNTS).model_dump(mode="json")


def lineage(manifest: Manifest) -> dict[str, Any]:
    """What an artifact was made from and what it holds, by content."""
    return {
        "inputs": dict(manifest.inputs),
        "config": dict(manifest.config),
        "files": dict(manifest.files),
        "versions": dict(manifest.versions),
    }


def _samples(context: Context[ReportSettings]) -> str:
    prompts = context.read(files.EVAL_PROMPTS)
    answers: dict[Any, list[Completion]] = {}
    for answer in context.read(files.ANSWERS):
        answers.setdefault(answer.model, []).append(answer)
    return side_by_side(prompts, answers, context.settings.report.samples)


def _sweep(context: Context[ReportSettings]) -> str:
    """The sweep's page, its picture copied beside the report; "" where none was made."""
    page, picture = (context.path(f"{SWEEP}/{name}") for name in ("sweep.md", "frontier.svg"))
    if not page.is_file():
        return ""
    if picture.is_file():
        shutil.copyfile(picture, context.out / picture.name)
    return "## Sweep\n\n" + read_text(page).partition("\n")[2].strip()


def markdown(report: Mapping[str, Any], samples: str, sweep: str = "") -> str:
    """The report as Markdown."""
    dpo, sft = report["figures"].get("dpo", {}), report["figures"].get("sft", {})
    parts = [
        f"# {escape.markdown(report['name'])}",
        f"Gate: **{report['gate']['status']}** ({report['gate']['advice']}) — {report['prompts']} held-out prompts, "
        f"judge {escape.code_span(str(report['judge']))}, {report['missing']:.1%} of judgements missing. "
        "Intervals are 95 %.",
        decision_markdown(Decision.model_validate(report["decision"])),
        "## Comparison",
        table_markdown(report["table"]),
        pairwise_markdown(report["pairwise"]),
        judgements_markdown(report["judgements"]),
        "\n".join(f"- **{warning['name']}**: {escape.markdown(warning['text'])}" for warning in report["warnings"]),
        probe_markdown(report["probe"]),
        "## Gate",
        criteria_markdown(report["gate"]["criteria"]),
        "## Training",
        watch_markdown(report["stages"]["dpo"]["watch"], dpo),
        _figures_markdown({"sft": sft, "dpo": dpo, "pairs": report["figures"].get("pairs", {})}),
        data_check_markdown(report["figures"].get("data_check")),
        sweep,
        "## Samples",
        samples,
        "## Lineage",
        _lineage_markdown(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def watch_markdown(watch: Mapping[str, Any] | None, dpo: Mapping[str, Any]) -> str:
    """The diagnosis, what it cost, and what was done about it."""
    if watch is None:
        return ""
    share = "" if watch["share"] is None else f" Watching took {watch['share']:.1%} of the training's time."
    acted = watch_actions(dpo)
    return f"Diagnosis: {watch['sentence'].rstrip(' .')}.{share}" + (f" The watch {acted}." if acted else "")


def data_check_markdown(figures: Mapping[str, Any] | None) -> str:
    """What the checks of the pairs warned of, and what was waived for which reason."""
    if figures is None:
        return ""
    lines = [f"Checks of the pairs: **{figures['status']}**."]
    if figures["warned"]:
        lines.append(f"- warned: {', '.join(figures['warned'])}")
    lines += [
        f"- failed and waived: **{name}** — {escape.markdown(reason)}" for name, reason in figures["waived"].items()
    ]
    return "\n".join(lines)


def table_markdown(table: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "| Metric | Base | SFT | SFT+DPO | Δ DPO over SFT | n | Missing | Δ at worst, at best |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in table:
        delta = "—" if row["delta"] is None else f"{row['delta']:+.3f}"
        if row["delta_low"] is not None:
            delta += f" [{row['delta_low']:+.3f}, {row['delta_high']:+.3f}]"
        values = " | ".join(_number(row[view]) for view in ("base", "sft", "dpo"))
        extremes = _range(row["delta_worst"], row["delta_best"], "+.3f")
        cells = (escape.markdown(row["metric"]), values, f"{delta} {row['word']}", row["n"], row["missing"], extremes)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) if table else ""


def pairwise_markdown(pairwise: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [
        "| Pair | Win rate (ties half) | 95 % interval | | n | Missing | At worst, at best | Both orders pooled "
        "| At equal length |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, figures in pairwise.items():
        cells = [
            name.replace("_", " "),
            _number(figures["win_rate"]),
            _range(figures["low"], figures["high"], ".3f"),
            figures["word"],
            figures["n"],
            figures["missing"],
            _range(figures["worst"], figures["best"], ".3f"),
            _number(figures["pooled"]["value"]),
            _number(figures["length_adjusted"]["value"]),
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) if pairwise else ""


def judgements(comparison: Mapping[str, Any], pairs: Mapping[str, Any]) -> dict[str, Any]:
    """Every judgement of the run by its state, what was flagged, and how often a panel's members disagreed."""
    verdicts = {"pairs": pairs["states"]} if pairs else {}
    return {
        "verdicts": verdicts | {name: figures["states"] for name, figures in comparison["pairwise"].items()},
        "scores": comparison["score_states"],
        "flagged": {"pairs": pairs.get("flagged"), "comparison": comparison["flagged"]},
        "panel_disagreement": {
            "pairs": pairs.get("panel_disagreement"),
            "comparison": comparison["panel_disagreement"],
        },
    }


def judgements_markdown(found: Mapping[str, Any]) -> str:
    """All seven states of the verdicts, those of the scores, and what was flagged."""
    lines = []
    if found["verdicts"]:
        states = list(VerdictState)
        lines = [f"| Judgements | {' | '.join(states)} |", "|---|" + "---|" * len(states)]
        lines += [
            f"| {name.replace('_', ' ')} | {' | '.join(str(counts[state]) for state in states)} |"
            for name, counts in found["verdicts"].items()
        ]
    said = []
    if found["scores"] is not None:
        said.append("Scores: " + ", ".join(f"{count} {state}" for state, count in found["scores"].items()) + ".")
    for name, words in (("flagged", "with instructions to the judge"), ("panel_disagreement", "panel disagreement")):
        values = [f"{where} {_number(value)}" for where, value in found[name].items() if value is not None]
        said += [f"{words.capitalize()}: {', '.join(values)}."] if values else []
    return "\n".join(lines) + ("\n\n" + " ".join(said) if said else "")


def probe_markdown(probe: Mapping[str, Any] | None) -> str:
    """Forgetting, drift and the implicit reward, where they were measured."""
    if probe is None:
        return ""
    lines = ["| Figure | Value | 95 % interval | n |", "|---|---|---|---|"]
    for name, figures in probe.items():
        for key, found in (
            [(name, figures)] if "value" in figures else [(f"{name}, {k}", v) for k, v in figures.items()]
        ):
            lines.append(
                f"| {key.replace('_', ' ')} | {_number(found['value'])} | {_range(found['low'], found['high'], '.3f')} "
                f"| {found['n']} |"
            )
    return "\n".join(lines)


def _range(low: float | None, high: float | None, form: str) -> str:
    return "—" if low is None or high is None else f"[{low:{form}}, {high:{form}}]"


def _figures_markdown(figures: Mapping[str, Mapping[str, Any]]) -> str:
    lines = ["| Stage | Figure | Value |", "|---|---|---|"]
    for stage, found in figures.items():
        lines += [f"| {stage} | {key.replace('_', ' ')} | {_number(value)} |" for key, value in found.items()]
    return "\n".join(lines)


def _lineage_markdown(report: Mapping[str, Any]) -> str:
    lines = ["| Stage | Seconds | Hash | Made from |", "|---|---|---|---|"]
    for name, stage in report["stages"].items():
        made_from = ", ".join(f"{key} `{value[:12]}`" for key, value in report["lineage"][name]["inputs"].items())
        lines.append(f"| {name} | {stage['seconds']:.1f} | `{stage['hash']}` | {made_from} |")
    return "\n".join(lines)


def _number(value: Any) -> str:
    if value is None:
        return "—"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
