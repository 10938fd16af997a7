"""The `report` stage: report.json, the interface, and report.md, the same for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fairlead.artifacts import Artifact, package_versions
from fairlead.evaluation.answers import side_by_side
from fairlead.files import read_json, write_atomic, write_json
from fairlead.preferences import rows
from fairlead.records import Completion
from fairlead.stages import Context, Figures

SCHEMA = 1


def run(context: Context) -> Figures:
    """Writes report.json and report.md; the project copies them to its `report` folder."""
    inputs = context.inputs
    comparison = read_json(inputs["eval"].file("comparison.json"))
    gate = read_json(inputs["gate"].file("gate.json"))
    report = {
        "schema": SCHEMA,
        "name": context.section("name"),
        "seed": context.seed,
        "table": comparison["table"],
        "pairwise": comparison["pairwise"],
        "prompts": comparison["prompts"],
        "missing": comparison["missing"],
        "judge": comparison["judge"],
        "gate": {"status": gate["status"], "criteria": gate["criteria"]},
        "figures": {name: dict(artifact.manifest.figures) for name, artifact in inputs.items()},
        "stages": {
            name: {"seconds": artifact.manifest.seconds, "hash": artifact.hash, "artifact": artifact.manifest.key}
            for name, artifact in inputs.items()
        },
        "lineage": {name: lineage(artifact) for name, artifact in inputs.items()},
        "versions": package_versions(),
    }
    write_json(context.out / "report.json", report)
    samples = _samples(inputs, context.section("report").samples)
    write_atomic(context.out / "report.md", markdown(report, samples))
    return {"status": gate["status"], "rows": len(comparison["table"])}


def lineage(artifact: Artifact) -> dict[str, Any]:
    """What an artifact was made from and what it holds, by content."""
    manifest = artifact.manifest
    return {
        "inputs": dict(manifest.inputs),
        "config": dict(manifest.config),
        "files": dict(manifest.files),
        "versions": dict(manifest.versions),
    }


def _samples(inputs: Mapping[str, Artifact], most: int) -> str:
    prompts = rows.prompts(inputs["prepare"].file("eval.jsonl"))
    answers: dict[Any, list[Completion]] = {}
    for answer in rows.completions(inputs["answers"].file("answers.jsonl")):
        answers.setdefault(answer.model, []).append(answer)
    return side_by_side(prompts, answers, most)


def markdown(report: Mapping[str, Any], samples: str) -> str:
    """The report as Markdown."""
    dpo, sft = report["figures"].get("dpo", {}), report["figures"].get("sft", {})
    parts = [
        f"# {report['name']}",
        f"Gate: **{report['gate']['status']}** — {report['prompts']} held-out prompts, judge `{report['judge']}`, "
        f"{report['missing']:.1%} of judgements missing. Intervals are 95 %.",
        "## Comparison",
        table_markdown(report["table"]),
        pairwise_markdown(report["pairwise"]),
        "## Gate",
        gate_markdown(report["gate"]["criteria"]),
        "## Training",
        _figures_markdown({"sft": sft, "dpo": dpo, "pairs": report["figures"].get("pairs", {})}),
        "## Samples",
        samples,
        "## Lineage",
        _lineage_markdown(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def table_markdown(table: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| Metric | Base | SFT | SFT+DPO | Δ DPO over SFT | n |", "|---|---|---|---|---|---|"]
    for row in table:
        delta = "—" if row["delta"] is None else f"{row['delta']:+.3f}"
        if row["delta_low"] is not None:
            delta += f" [{row['delta_low']:+.3f}, {row['delta_high']:+.3f}]"
        values = " | ".join(_number(row[view]) for view in ("base", "sft", "dpo"))
        lines.append(f"| {row['metric']} | {values} | {delta} {row['word']} | {row['n']} |")
    return "\n".join(lines) if table else ""


def pairwise_markdown(pairwise: Mapping[str, Mapping[str, Any]]) -> str:
    lines = ["| Pair | Win rate (ties half) | 95 % interval | n | Missing |", "|---|---|---|---|---|"]
    for name, figures in pairwise.items():
        interval = "—" if figures["low"] is None else f"[{figures['low']:.3f}, {figures['high']:.3f}]"
        lines.append(
            f"| {name.replace('_', ' ')} | {_number(figures['win_rate'])} | {interval} "
            f"| {figures['n']} | {figures['missing']} |"
        )
    return "\n".join(lines) if pairwise else ""


def gate_markdown(criteria: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| Figure | Demanded | Found | Status |", "|---|---|---|---|"]
    for criterion in criteria:
        bounds = ", ".join(
            f"{name.replace('_', ' ')} {criterion[name]:g}"
            for name in ("above", "at_least", "below", "at_most")
            if name in criterion
        )
        reason = f" ({criterion['reason']})" if criterion["reason"] else ""
        lines.append(
            f"| {criterion['figure']} | {bounds} | {_number(criterion['value'])} | {criterion['status']}{reason} |"
        )
    return "\n".join(lines)


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
