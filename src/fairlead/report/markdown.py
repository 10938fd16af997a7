"""`report.md`: the report as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fairlead import escape
from fairlead.decide.markdown import section_markdown as decision_markdown
from fairlead.documents.diagnosis import Diagnosis
from fairlead.documents.report import (
    Drift,
    Figures,
    Judgements,
    PairFigures,
    Report,
    TableRow,
    TrainedStageRecord,
    drift_figures,
)
from fairlead.escape import code_span
from fairlead.gate.output import criteria_markdown
from fairlead.records import Interval, ScoreState, VerdictState
from fairlead.records.judge_names import legend, short_name
from fairlead.report.arms import arms_markdown
from fairlead.report.opening import basis_markdown, opening_markdown, usage_of
from fairlead.report.outcome import number
from fairlead.report.slices import slices_markdown

KL_MEANING = (
    "`kl from reference` is the KL from the reference in nats per answer, on answers that the policy samples to "
    "held-out prompts: at each token the exact KL of the two next-token distributions, summed over the answer. The "
    "diagnosis of the training shows the same measure on prompts of the validation pairs."
)


def markdown(report: Report, samples: str, sweep: str = "", curves: str = "") -> str:
    """The report as Markdown: the answers of whoever has to decide, the tables, then what they were made from.

    Args:
        samples: answers side by side, as Markdown.
        sweep: the sweep's section; "" where none was made.
        curves: name of the picture of the training's curves; "" where there is none.
    """
    figures = report.figures
    parts = [
        f"# {escape.markdown(report.name)}",
        opening_markdown(report),
        basis_markdown(report),
        "## Comparison",
        table_markdown(report.table),
        arms_markdown(report),
        slices_markdown(report.slices),
        pairwise_markdown(report.pairwise),
        human_markdown(report.pairwise),
        "\n".join(f"- **{caveat.name}**: {escape.markdown(caveat.text)}" for caveat in report.warnings),
        drift_markdown(drift_figures(report.probe)),
        "## Gate",
        criteria_markdown(report.gate.criteria),
        "## Training",
        f"![reward gap on training and validation pairs, and KL from the reference]({curves})" if curves else "",
        diagnosis_markdown(diagnosis_of(report), figures.get("dpo", {})),
        _figures_markdown({name: figures.get(name, {}) for name in ("sft", "dpo", "pairs")}),
        data_check_markdown("SFT rows and prompts", figures.get("rows_check")),
        data_check_markdown("pairs", figures.get("data_check")),
        "## Judge",
        judge_markdown(report),
        judgements_markdown(report.judgements),
        decision_markdown(report.decision),
        sweep,
        "## Samples",
        samples,
        "## Lineage",
        _lineage_markdown(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def judge_markdown(report: Report) -> str:
    """What the judge's short name stands for, and what its replies took."""
    name = str(report.judge)
    lines = [f"{code_span(short_name(name))} is {code_span(name)}."] if legend(name) else []
    titles = (("judge", "preference pairs"), ("eval", "comparison"))
    usages = [(title, usage) for stage, title in titles if (usage := usage_of(report, stage)) is not None]
    if usages:
        lines += ["", "| Asked for | Replies | Tokens read | Written | Cost |", "|---|---|---|---|---|"]
        for title, usage in usages:
            counts = ("—" if n is None else f"{n:,}" for n in (usage.replies, usage.input_tokens, usage.output_tokens))
            cost = "—" if usage.cost is None else f"{usage.cost:.2f}"
            lines.append(f"| {' | '.join((title, *counts, cost))} |")
    return "\n".join(lines).strip()


def diagnosis_of(report: Report) -> Diagnosis | None:
    """What the monitor of the DPO training saw; None where there is none."""
    stage = report.stages.get("dpo")
    return stage.watch if isinstance(stage, TrainedStageRecord) else None


def diagnosis_markdown(diagnosis: Diagnosis | None, dpo: Figures) -> str:
    """The diagnosis, what it cost, and what was done about it."""
    if diagnosis is None:
        return ""
    sentence = escape.markdown(diagnosis.sentence.rstrip(" ."))
    sentences = [f"Diagnosis: {sentence}", *monitor_actions(dpo)]
    if diagnosis.share is not None:
        sentences.insert(1, f"Monitoring took {diagnosis.share:.1%} of the training's time")
    return " ".join(f"{sentence}." for sentence in sentences)


def monitor_actions(dpo: Figures) -> list[str]:
    """Sentences on what the monitor did to the training, from the metrics of the stage; none where it only measured."""
    done = []
    if reason := dpo.get("stopped_on"):
        done.append(f"Training was stopped at step {dpo['steps']} because of {str(reason).replace('_', ' ')}")
    if dpo.get("kept_step") is not None:
        kl, gap = number(dpo, "kept_kl"), number(dpo, "kept_gap") or 0.0
        nats = "KL not measured" if kl is None else f"KL {kl:.3g} nats per answer"
        done.append(f"The weights of step {dpo['kept_step']} were kept: validation gap {gap:.3g}, {nats}")
    return done


def data_check_markdown(rows: str, figures: Figures | None) -> str:
    """What the checks of some rows warned of, and what was waived for which reason."""
    if figures is None:
        return ""
    lines = [f"Checks of the {rows}: **{figures['status']}**."]
    warned, waived = figures["warned"], figures["waived"]
    if isinstance(warned, list) and warned:
        lines.append(f"- warned: {', '.join(map(str, warned))}")
    for name, reason in sorted(waived.items()) if isinstance(waived, Mapping) else ():
        lines.append(f"- failed and waived: **{name}** — {escape.markdown(str(reason))}")
    return "\n".join(lines)


def table_markdown(table: Sequence[TableRow]) -> str:
    reference = "SFT" if all(row.against == "sft" for row in table) else "base"
    lines = [
        f"| Metric | Base | SFT | SFT+DPO | Δ DPO over {reference} | n | Missing | Δ at worst, at best |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in table:
        delta = "—" if row.delta is None else f"{row.delta:+.3f}"
        if row.delta_low is not None:
            delta += f" {_range(row.delta_low, row.delta_high, '+.3f')}"
        values = " | ".join(_value(value) for value in (row.base, row.sft, row.dpo))
        extremes = _range(row.delta_worst, row.delta_best, "+.3f")
        cells = (escape.markdown(row.metric), values, f"{delta} {row.word}", row.n, row.missing, extremes)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) if table else ""


def pairwise_markdown(pairwise: Mapping[str, PairFigures]) -> str:
    lines = [
        "| Pair | Win rate (ties half) | 95 % interval | | n | Missing | At worst, at best | Both orders pooled "
        "| At equal length |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, figures in pairwise.items():
        cells = [
            name.replace("_", " "),
            _value(figures.win_rate),
            _range(figures.low, figures.high, ".3f"),
            figures.word,
            figures.n,
            figures.missing,
            _range(figures.worst, figures.best, ".3f"),
            _value(figures.pooled.value),
            _value(None if figures.length_adjusted is None else figures.length_adjusted.value),
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) if pairwise else ""


def human_markdown(pairwise: Mapping[str, PairFigures]) -> str:
    """The win rates by the judge, by people, and by the judge corrected by people; nothing where nobody labelled."""
    lines = [
        "| Pair | By the judge | By people alone | Judge corrected by people | Labels | Reviewers | κ with judge |",
        "|---|---|---|---|---|---|---|",
    ]
    labelled = {name: figures.human for name, figures in pairwise.items() if figures.human is not None}
    for name, human in labelled.items():
        intervals = [
            f"{_value(value)} {_range(low, high, '.3f')}"
            for value, low, high in (
                (human.judge.value, human.judge.low, human.judge.high),
                (human.people.value, human.people.low, human.people.high),
                (human.win_rate, human.low, human.high),
            )
        ]
        cells = [name.replace("_", " "), *intervals, human.labels, human.reviewers, _value(human.kappa_judge.value)]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) if labelled else ""


def judgements_markdown(judgements: Judgements) -> str:
    """All seven states of the verdicts, those of the scores, and what was flagged."""
    lines = []
    if judgements.verdicts:
        states = list(VerdictState)
        lines = [f"| Judgements | {' | '.join(states)} |", "|---|" + "---|" * len(states)]
        lines += [
            f"| {name.replace('_', ' ')} | {' | '.join(str(counts[state]) for state in states)} |"
            for name, counts in judgements.verdicts.items()
        ]
    sentences = []
    if judgements.scores is not None:
        counts = (f"{judgements.scores[state]} {state}" for state in ScoreState)
        sentences.append(f"Scores: {', '.join(counts)}.")
    shares = (
        ("With instructions to the judge", judgements.flagged),
        ("Panel disagreement", judgements.panel_disagreement),
    )
    for title, by_part in shares:
        values = [f"{part} {_value(by_part[part])}" for part in sorted(by_part) if by_part[part] is not None]
        sentences += [f"{title}: {', '.join(values)}."] if values else []
    return "\n".join(lines) + ("\n\n" + " ".join(sentences) if sentences else "")


def drift_markdown(drift: Drift) -> str:
    """Forgetting, drift and the implicit reward, where they were measured."""
    if not drift:
        return ""
    lines = ["| Figure | Value | 95 % interval | n |", "|---|---|---|---|"]
    for name in sorted(drift):
        figure = drift[name]
        rows = {name: figure} if isinstance(figure, Interval) else {f"{name}, {m}": figure[m] for m in sorted(figure)}
        lines += [
            f"| {escape.markdown(title.replace('_', ' '))} | {_value(interval.value)} "
            f"| {_range(interval.low, interval.high, '.3f')} | {interval.n} |"
            for title, interval in rows.items()
        ]
    if "kl_from_reference" in drift:
        lines += ["", KL_MEANING]
    return "\n".join(lines)


def _figures_markdown(figures: Mapping[str, Figures]) -> str:
    """By name, so that a run that was resumed gives the same page."""
    lines = ["| Stage | Figure | Value |", "|---|---|---|"]
    for stage, of_stage in figures.items():
        lines += [f"| {stage} | {key.replace('_', ' ')} | {_value(of_stage[key])} |" for key in sorted(of_stage)]
    return "\n".join(lines)


def _lineage_markdown(report: Report) -> str:
    lines = ["| Stage | Seconds | Hash | Made from |", "|---|---|---|---|"]
    for name, stage in report.stages.items():
        inputs = report.lineage[name].inputs
        made_from = ", ".join(f"{escape.markdown(key)} `{inputs[key][:12]}`" for key in sorted(inputs))
        lines.append(f"| {name} | {stage.seconds:.1f} | `{stage.hash}` | {made_from} |")
    return "\n".join(lines)


def _range(low: float | None, high: float | None, form: str) -> str:
    return "—" if low is None or high is None else f"[{low:{form}}, {high:{form}}]"


def _value(value: Any) -> str:
    """A figure for people: rounded, lists and mappings in words."""
    if value is None:
        return "—"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_value(value[key])}" for key in sorted(value)) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value)) or "none"
    return escape.markdown(str(value))
