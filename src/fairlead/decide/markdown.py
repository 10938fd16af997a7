"""The decision for people: decision.md, the section of a report, the table of a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from fairlead import escape
from fairlead.documents.decision import Candidate, Decision, Mean, Usage

_CONDITIONS = ("Condition", "Holds", "Evidence")
_LEGEND = (
    "Means over the dev prompts with 95 % intervals. Tokens, seconds and cost are those of 1,000 answers, tokens in "
    "thousands; seconds are computing time in batches for a model on this machine, and the sum of the latencies for "
    "an endpoint."
)
_STATUS = {"meets": "meets every target", "misses": "misses", "open": "not shown either way"}


def section_markdown(decision: Decision) -> str:
    """The decision as a section of a report: the verdict, its lines, and the table of the metrics with a target."""
    parts = [f"## Decision: {decision.verdict}", _lines(decision)]
    if decision.candidates:
        parts.append(_markdown_table(*table(decision, brief=True)))
    return "\n\n".join(parts)


def _lines(decision: Decision) -> str:
    return "\n".join(f"- {escape.markdown(line)}" for line in decision.lines)


def markdown(decision: Decision) -> str:
    """The decision as Markdown."""
    parts = [f"# Decision: {decision.verdict}", _lines(decision)]
    if decision.candidates:
        parts += [
            f"## Candidates\n\n{_markdown_table(*table(decision))}",
            _LEGEND,
            f"## Conditions for fine-tuning\n\n{_markdown_table(_CONDITIONS, _conditions(decision))}",
        ]
        left_out = [(item.candidate, item.why) for item in decision.not_tried]
        left_out += [(item.name, item.reason) for item in decision.documents_left_out]
        if left_out:
            parts.append(f"## Left out\n\n{_markdown_table(('What', 'Why'), left_out)}")
        parts += _instructions(decision)
    return "\n\n".join(parts) + "\n"


def _conditions(decision: Decision) -> list[tuple[str, ...]]:
    return [(c.name, c.holds, c.evidence) for c in decision.conditions]


def table(decision: Decision, *, brief: bool = False) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows of the table, as text; the last row is what a fine-tuned model would cost.

    Args:
        brief: only the metrics with a target, and the other columns without intervals.
    """
    targets = {target.metric: target.at_least for target in decision.targets}
    metrics = [m for m in decision.candidates[0].figures if not brief or m in targets]
    named = [f"{m} (≥ {targets[m]:g})" if m in targets else m for m in metrics]
    header = ("Candidate", "Model", *named, "Malformed", "Recall", "Read", "Written", "Seconds", "Cost", "Shown")
    rows = [_table_row(row, metrics, brief) for row in decision.candidates]
    served = decision.fine_tuned_would_take
    if served is not None:
        blanks = ("—",) * (len(metrics) + 2)
        rows.append(("fine-tuned, no long prompt (estimate)", "—", *blanks, *_usage(served), "—"))
    return header, rows


def _table_row(row: Candidate, metrics: Sequence[str], brief: bool) -> tuple[str, ...]:
    beside = _value if brief else _with_interval
    return (
        row.candidate,
        row.model,
        *(_with_interval(row.figures[metric]) for metric in metrics),
        beside(row.malformed),
        beside(row.recall),
        *_usage(row.per_1000_answers),
        _STATUS[row.status],
    )


def _usage(usage: Usage) -> tuple[str, ...]:
    forms = (("input_tokens", ",.0f"), ("output_tokens", ",.0f"), ("seconds", ",.1f"), ("cost", ",.4g"))
    return tuple("—" if (value := getattr(usage, key)) is None else format(value, form) for key, form in forms)


def _value(mean: Mean | None) -> str:
    return "—" if mean is None or mean.value is None else f"{mean.value:.2f}"


def _with_interval(mean: Mean | None) -> str:
    if mean is None or mean.value is None or mean.low is None or mean.high is None:
        return _value(mean)
    return f"{mean.value:.2f} [{mean.low:.2f}, {mean.high:.2f}]"


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(escape.markdown(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _instructions(decision: Decision) -> list[str]:
    """The texts of the instructions, in code blocks that they cannot close."""
    texts = {row.recipe.instruction.name: row.recipe.instruction.text for row in decision.candidates}
    parts = []
    for name, text in texts.items():
        if text is not None:
            parts.append(f"### {name[0].upper()}{name[1:]}\n\n{escape.code_block(text)}")
    return ["## Instructions", *parts] if parts else []
