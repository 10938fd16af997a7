"""The beginning of `report.md`: what somebody asks who has to decide, answered from the figures below it."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from fairlead.documents.evaluation import Conclusion
from fairlead.documents.pairs import ReplyUsage
from fairlead.documents.report import Report, TableRow
from fairlead.escape import code_span, markdown
from fairlead.records.judge_names import short_name
from fairlead.report.arms import worth_it
from fairlead.report.outcome import STARTS, by_model, conclusion, decisive, longer_by, rows_that, start_of

_MOST_CRITERIA = 3  # of those that are not met; all of them stand under Gate
_GATE = {"passed": "The gate passed", "failed": "The gate failed", "insufficient": "The evidence is not enough"}


def opening_markdown(report: Report) -> str:
    """Whether it beats the best prompt; is it better, by how much, at what cost, what to do, was it needed at all."""
    answers = (
        ("Is it better?", _better(report)),
        ("By how much?", _by_how_much(report)),
        ("At what cost?", _cost(report)),
        ("What to do?", _what_to_do(report)),
        ("Was fine-tuning needed?", _needed(report)),
    )
    lines = "\n".join(f"- **{question}** {' '.join(answer)}" for question, answer in answers)
    first = worth_it(report)
    return lines if first is None else f"{first}\n\n{lines}"


def basis_markdown(report: Report) -> str:
    """What the figures rest on, in a line."""
    return (
        f"{report.prompts} held-out prompts, judge {code_span(short_name(report.judge))}, {report.missing:.1%} of "
        f"judgements missing. Intervals are 95 %.{_draws(report)}"
    )


def _draws(report: Report) -> str:
    """What several answers to each prompt brought."""
    draws = report.draws
    if draws is None or not draws.width_ratio:
        return ""
    ratio = median(draws.width_ratio.values())
    return (
        f" Each prompt was answered {draws.per_prompt} times, as one group: the intervals of DPO's differences are "
        f"{ratio:.2f} times as wide as with one answer (median of the metrics)."
    )


def usage_of(report: Report, stage: str) -> ReplyUsage | None:
    """What the judge's replies took in a stage; None where no language model was asked."""
    asked = report.figures.get(stage, {}).get("asked")
    return None if asked is None else ReplyUsage.model_validate(asked)


def _better(report: Report) -> Iterator[str]:
    compared = decisive(report)
    other = STARTS[start_of(report)]
    if compared is None:
        yield "No judge compared the models; the metrics below are all there is."
    else:
        pair, figures = compared
        other = STARTS[pair.reference]
        seen = figures.detectable
        limit = "" if seen is None else f"; a difference of {seen:.1%} would have been seen in 8 of 10 such comparisons"
        yield {
            Conclusion.BETTER: f"Yes: DPO's answers are better than those of {other}, beyond what chance explains.",
            Conclusion.WORSE: f"No: DPO's answers are worse than those of {other}, beyond what chance explains.",
            Conclusion.NOT_SHOWN: f"Not shown: no difference to {other} in either direction{limit}.",
            Conclusion.UNDEFINED: f"Not known: so few prompts say nothing of a difference to {other}.",
        }[conclusion(figures)]
    if report.warnings:
        names = ", ".join(dict.fromkeys(caveat.name.replace("_", " ") for caveat in report.warnings))
        yield f"Reasons for doubt: {markdown(names)}."


def _by_how_much(report: Report) -> Iterator[str]:
    compared = decisive(report)
    if compared is not None and compared[1].win_rate is not None:
        pair, figures = compared
        interval = "" if figures.low is None else f" [{figures.low:.1%}, {figures.high:.1%}]"
        other = STARTS[pair.reference]
        yield f"Win rate over {other} {figures.win_rate:.1%}{interval}, n {figures.n}, ties counted half."
    for title, concluded in (("Better", Conclusion.BETTER), ("Worse", Conclusion.WORSE)):
        if rows := rows_that(report, concluded):
            yield f"{title}: {', '.join(map(_change, rows))}."
    for title, concluded in (("No difference shown", Conclusion.NOT_SHOWN), ("Undefined", Conclusion.UNDEFINED)):
        if rows := rows_that(report, concluded):
            yield f"{title}: {', '.join(code_span(row.metric) for row in rows)}."


def _change(row: TableRow) -> str:
    interval = "" if row.delta_low is None else f" [{row.delta_low:+.3f}, {row.delta_high:+.3f}]"
    return f"{code_span(row.metric)} {row.delta:+.3f}{interval}"


def _cost(report: Report) -> Iterator[str]:
    yield f"Training: {', '.join(_trained(report, name) for name in ('sft', 'dpo') if name in report.stages)}."
    usages = [usage for stage in ("judge", "eval") if (usage := usage_of(report, stage)) is not None]
    yield f"Judge: {usage_text(ReplyUsage.sum(usages)) if usages else _without_usage(report.judge)}."
    longer = longer_by(report)
    if longer is not None:
        yield f"Answers are {abs(longer):.0%} {'longer' if longer > 0 else 'shorter'} than before."
    perplexity = by_model(report, "perplexity")
    if "base" in perplexity and "dpo" in perplexity:
        base, dpo = (perplexity[model].value for model in ("base", "dpo"))
        yield f"Perplexity of general text: {base:.2f} before, {dpo:.2f} after."


def _trained(report: Report, model: str) -> str:
    if report.figures.get(model, {}).get("brought_from"):
        return f"{model.upper()} made elsewhere"
    return f"{model.upper()} {_duration(report.stages[model].seconds)}"


def _without_usage(judge: str | None) -> str:
    if judge is None:
        return "none was asked"
    if judge.startswith(("rubric:", "reward:")):
        return "no language model was asked"
    return "its replies were not counted, see fairlead judge ledger"


def usage_text(usage: ReplyUsage) -> str:
    """Replies, tokens and cost in words."""
    parts = [f"{usage.replies:,} replies"]
    if usage.input_tokens is not None:
        parts.append(f"{usage.input_tokens:,} tokens read")
    if usage.output_tokens is not None:
        parts.append(f"{usage.output_tokens:,} written")
    parts.append("cost not known (no prices in the judge section)" if usage.cost is None else f"cost {usage.cost:.2f}")
    return ", ".join(parts)


def _what_to_do(report: Report) -> Iterator[str]:
    gate = report.gate
    yield f"{_GATE[gate.status]}: {gate.advice}."
    unmet = [result for result in gate.criteria if result.status != "passed"]
    if unmet:
        shown = "; ".join(
            f"{code_span(result.figure)} {result.demanded} "
            f"({'not measured' if result.value is None else f'found {result.value:.3g}'})"
            for result in unmet[:_MOST_CRITERIA]
        )
        more = f"; {len(unmet) - _MOST_CRITERIA} more under Gate" if len(unmet) > _MOST_CRITERIA else ""
        yield f"Not met: {shown}{more}."


def _needed(report: Report) -> Iterator[str]:
    decision = report.decision
    reason = markdown(decision.why.rstrip(" ."))
    if decision.verdict == "waived":
        yield f"Not measured, the decision was waived: {reason}."
    else:
        yield f"{decision.verdict[0].upper()}{decision.verdict[1:]}: {reason}."


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
