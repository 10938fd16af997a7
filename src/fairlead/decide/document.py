"""decision.json, the interface, and decision.md, the same for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fairlead import escape

if TYPE_CHECKING:  # a decision that is there is shown at once; statistics takes seconds to import
    from fairlead.config.decide import Target
    from fairlead.decide.candidates import Recipe
    from fairlead.decide.retrieval.documents import LeftOut
    from fairlead.decide.scoring import Candidate, Figure, Usage
    from fairlead.decide.verdict import Condition, Training, Verdict
    from fairlead.records import Interval

SCHEMA = 1
_CONDITIONS = ("Condition", "Holds", "Evidence")
_LEGEND = (
    "Means over the dev prompts with 95 % intervals. Tokens, seconds and cost are those of 1,000 answers, tokens in "
    "thousands; seconds are computing time in batches for a model on this machine, and the sum of the latencies for "
    "an endpoint."
)
_STATUS = {"meets": "meets every target", "misses": "misses", "open": "not shown either way"}


def waived(reason: str) -> dict[str, Any]:
    """The decision of a project that trains without one."""
    return {
        "schema": SCHEMA,
        "verdict": "waived",
        "why": reason,
        "needed": None,
        "prompts": 0,
        "lines": [f"The decision was waived: {reason}"],
        "conditions": [],
        "candidates": [],
    }


def decision(
    verdict: Verdict,
    candidates: Sequence[Candidate],
    recipes: Sequence[Recipe],
    *,
    targets: Sequence[Target],
    lines: Sequence[str],
    conditions: Sequence[Condition],
    training: Training,
    served: Usage | None,
    skipped: Sequence[Mapping[str, str]],
    documents_left_out: Sequence[LeftOut],
    prompts: int,
    tuning_prompts: int,
) -> dict[str, Any]:
    """Everything that was measured, as JSON values."""
    rows = [_row(candidate, recipe) for candidate, recipe in zip(candidates, recipes, strict=True)]
    return {
        "schema": SCHEMA,
        "verdict": verdict.word,
        "why": verdict.why,
        "needed": verdict.needed,
        "winner": None if verdict.winner is None else rows[candidates.index(verdict.winner)],
        "nearest": rows[candidates.index(verdict.nearest)],
        "targets": [target.model_dump() for target in targets],
        "lines": list(lines),
        "conditions": [asdict(condition) for condition in conditions],
        "candidates": rows,
        "fine_tuned_would_take": None if served is None else asdict(served),
        "training": {**asdict(training), "quality": {k: _interval(v) for k, v in training.quality.items()}},
        "not_tried": [dict(item) for item in skipped],
        "documents_left_out": [asdict(item) for item in documents_left_out],
        "prompts": prompts,
        "tuning_prompts": tuning_prompts,
    }


def _row(candidate: Candidate, recipe: Recipe) -> dict[str, Any]:
    return {
        "candidate": candidate.name,
        "model": candidate.model,
        "family": candidate.family,
        "recipe": asdict(recipe),
        "status": candidate.status,
        "figures": {figure.metric: _figure(figure) for figure in candidate.figures},
        "malformed": _interval(candidate.malformed),
        "recall": _interval(candidate.recall),
        "cut": candidate.cut,
        "shots": candidate.shots,
        "passages": candidate.passages,
        "per_1000_answers": asdict(candidate.usage),
    }


def _figure(figure: Figure) -> dict[str, Any]:
    interval = _interval(figure.interval) or {}
    return {
        **interval,
        "missing": figure.missing,
        "target": figure.target,
        "status": figure.status,
        "needed": figure.needed,
    }


def _interval(interval: Interval | None) -> dict[str, Any] | None:
    if interval is None:
        return None
    return {"value": interval.value, "low": interval.low, "high": interval.high, "n": interval.n}


def section_markdown(content: Mapping[str, Any]) -> str:
    """The decision as a section of a report: the verdict, its lines, and the table of the metrics with a target."""
    parts = [f"## Decision: {content['verdict']}", _lines(content)]
    if content["candidates"]:
        parts.append(_markdown_table(*table(content, brief=True)))
    return "\n\n".join(parts)


def _lines(content: Mapping[str, Any]) -> str:
    return "\n".join(f"- {escape.markdown(line)}" for line in content["lines"])


def markdown(content: Mapping[str, Any]) -> str:
    """The decision as Markdown."""
    parts = [f"# Decision: {content['verdict']}", _lines(content)]
    if content["candidates"]:
        parts += [
            f"## Candidates\n\n{_markdown_table(*table(content))}",
            _LEGEND,
            f"## Conditions for fine-tuning\n\n{_markdown_table(_CONDITIONS, _conditions(content))}",
        ]
        left_out = [(item["candidate"], item["why"]) for item in content["not_tried"]]
        left_out += [(item["name"], item["reason"]) for item in content["documents_left_out"]]
        if left_out:
            parts.append(f"## Left out\n\n{_markdown_table(('What', 'Why'), left_out)}")
        parts += _instructions(content)
    return "\n\n".join(parts) + "\n"


def _conditions(content: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [(c["name"], c["holds"], c["evidence"]) for c in content["conditions"]]


def table(content: Mapping[str, Any], *, brief: bool = False) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows of the table, as text; the last row is what a fine-tuned model would take.

    Args:
        brief: only the metrics with a target, and only the means of what is beside them.
    """
    targets = {target["metric"]: target["at_least"] for target in content["targets"]}
    metrics = [m for m in content["candidates"][0]["figures"] if not brief or m in targets]
    named = [f"{m} (≥ {targets[m]:g})" if m in targets else m for m in metrics]
    header = ("Candidate", "Model", *named, "Malformed", "Recall", "Read", "Written", "Seconds", "Cost", "Shown")
    rows = [_table_row(row, metrics, brief) for row in content["candidates"]]
    served = content["fine_tuned_would_take"]
    if served is not None:
        blanks = ("—",) * (len(metrics) + 2)
        rows.append(("fine-tuned, no long prompt (estimate)", "—", *blanks, *_usage(served), "—"))
    return header, rows


def _table_row(row: Mapping[str, Any], metrics: Sequence[str], brief: bool) -> tuple[str, ...]:
    beside = _value if brief else _spread
    return (
        row["candidate"],
        row["model"],
        *(_spread(row["figures"][metric]) for metric in metrics),
        beside(row["malformed"]),
        beside(row["recall"]),
        *_usage(row["per_1000_answers"]),
        _STATUS[row["status"]],
    )


def _usage(usage: Mapping[str, float | None]) -> tuple[str, ...]:
    forms = (("input_tokens", ",.0f"), ("output_tokens", ",.0f"), ("seconds", ",.1f"), ("cost", ",.4g"))
    return tuple("—" if (value := usage[key]) is None else format(value, form) for key, form in forms)


def _value(interval: Mapping[str, Any] | None) -> str:
    return "—" if interval is None or interval["value"] is None else f"{interval['value']:.2f}"


def _spread(interval: Mapping[str, Any] | None) -> str:
    if interval is None or interval["value"] is None:
        return "—"
    if interval["low"] is None:
        return f"{interval['value']:.2f}"
    return f"{interval['value']:.2f} [{interval['low']:.2f}, {interval['high']:.2f}]"


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(escape.markdown(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _instructions(content: Mapping[str, Any]) -> list[str]:
    """The instructions' texts, each in a code block that it cannot close."""
    texts = {
        row["recipe"]["instruction"]["name"]: row["recipe"]["instruction"]["text"] for row in content["candidates"]
    }
    parts = []
    for name, text in texts.items():
        if text is not None:
            parts.append(f"### {name[0].upper()}{name[1:]}\n\n{escape.code_block(text)}")
    return ["## Instructions", *parts] if parts else []
