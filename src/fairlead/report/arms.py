"""Whether training was worth it: DPO beside the best prompt, and what every arm scores and costs."""

from __future__ import annotations

from collections.abc import Mapping

from fairlead.config.release import NOT_WORSE_THAN_PROMPTED
from fairlead.config.values.arms import MODELS, PROMPTED
from fairlead.documents.report import ArmFigures, DifferenceFigures, Report
from fairlead.escape import code_span, markdown

OVER_PROMPTED = f"dpo_vs_{PROMPTED}"
COSTS = ("tokens read", "written", "s per 1,000", "cost per 1,000")
TITLES = {"base": "Base", "sft": "SFT", "dpo": "SFT+DPO", PROMPTED: "Best prompt"}


def title_of(arm: str) -> str:
    """An arm's name for people."""
    return TITLES.get(arm, arm)


def in_order(arms: Mapping[str, ArmFigures]) -> dict[str, ArmFigures]:
    """The project's models first, then the other arms."""
    return {name: arms[name] for name in (*MODELS, *arms) if name in arms}


def worth_it(report: Report) -> str | None:
    """The first sentence of a report: DPO against the best prompt; None where the two are not compared."""
    metric, difference = _deciding(report)
    if difference is None or difference.delta is None or difference.delta_low is None or difference.delta_high is None:
        return None
    interval = f"{abs(difference.delta):.3f} {_ends(difference)}"
    trained, where = "SFT+DPO" if "sft" in report.arms else "DPO", f"in {code_span(metric)}"
    if difference.delta_low > 0:
        return f"{trained} beats the best prompt by {interval} {where}{_tokens(report)}."
    if difference.delta_high < 0:
        return f"The best prompt beats {trained} by {interval} {where}: ship the prompt."
    judged = report.pairwise.get(OVER_PROMPTED)
    if judged is not None and judged.high is not None and judged.high < 0.5 + NOT_WORSE_THAN_PROMPTED:
        rate = f"{judged.win_rate:.1%} [{judged.low:.1%}, {judged.high:.1%}]"
        return f"The best prompt is as good as {trained}, which wins {rate} of the comparisons: ship the prompt."
    return f"That {trained} beats the best prompt is not shown: {difference.delta:+.3f} {_ends(difference)} {where}."


def _deciding(report: Report) -> tuple[str, DifferenceFigures | None]:
    """The metric on which the best prompt is furthest from its target, or, without targets, from DPO."""
    differences = report.differences.get(OVER_PROMPTED, {})
    means = report.arms[PROMPTED].metrics if PROMPTED in report.arms else {}
    short = {
        target.metric: target.at_least - value
        for target in report.decision.targets
        if target.metric in differences and target.metric in means and (value := means[target.metric].value) is not None
    }
    known = short or {metric: abs(figures.delta or 0.0) for metric, figures in differences.items()}
    metric = max(known, key=lambda name: known[name], default="")
    return metric, differences.get(metric)


def _ends(difference: DifferenceFigures) -> str:
    low, high = difference.delta_low or 0.0, difference.delta_high or 0.0
    if high < 0:
        low, high = -high, -low
    return f"[{low:.3f}, {high:.3f}]" if low > 0 else f"[{low:+.3f}, {high:+.3f}]"


def _tokens(report: Report) -> str:
    """How many of the prompt's tokens DPO takes for an answer."""
    ours, theirs = (_of_an_answer(report.arms[arm]) for arm in ("dpo", PROMPTED))
    return f", with {ours / theirs:.0%} of its tokens" if ours and theirs else ""


def _of_an_answer(arm: ArmFigures) -> float | None:
    if arm.input_tokens is None or arm.output_tokens is None:
        return None
    return arm.input_tokens + arm.output_tokens


def cost_cells(arm: ArmFigures) -> tuple[str, ...]:
    """What `COSTS` names, for a table."""
    figures = (arm.input_tokens, 0), (arm.output_tokens, 0), (arm.seconds_per_1000, 0), (arm.cost_per_1000, 2)
    return tuple("—" if value is None else f"{value:,.{digits}f}" for value, digits in figures)


def arms_markdown(report: Report) -> str:
    """Every arm with its means and what an answer takes; "" where there are only base, SFT and DPO."""
    if not report.differences and set(report.arms) <= set(MODELS):
        return ""
    metrics = [row.metric for row in report.table]
    lines = [
        "### Every arm",
        "",
        f"| {' | '.join(('Arm', *map(markdown, metrics), *COSTS))} |",
        "|---|" + "---|" * (len(metrics) + 4),
    ]
    for name, arm in in_order(report.arms).items():
        means = [_mean(arm, metric) for metric in metrics]
        lines.append(f"| {markdown(title_of(name))} | {' | '.join((*means, *cost_cells(arm)))} |")
    asked = [f"- **{markdown(title_of(name))}**: {markdown(arm.what)}" for name, arm in in_order(report.arms).items()]
    return "\n".join([*lines, "", *asked, *_differences(report)])


def _mean(arm: ArmFigures, metric: str) -> str:
    mean = arm.metrics.get(metric)
    if mean is None or mean.value is None:
        return "—"
    return f"{mean.value:.3f}" if mean.low is None else f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]"


def _differences(report: Report) -> list[str]:
    if not report.differences:
        return []
    lines = ["", "| Compared | Metric | Difference | | n |", "|---|---|---|---|---|"]
    for pair, by_metric in report.differences.items():
        for metric, figures in by_metric.items():
            if figures.delta is None:
                continue
            ends = "" if figures.delta_low is None else f" [{figures.delta_low:+.3f}, {figures.delta_high:+.3f}]"
            cells = (pair.replace("_", " "), markdown(metric), f"{figures.delta:+.3f}{ends}", figures.word, figures.n)
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines
