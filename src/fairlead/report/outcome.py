"""What a report says of DPO as a whole: the comparison that decides, and what its figures may be called."""

from __future__ import annotations

from fairlead.documents.evaluation import Conclusion
from fairlead.documents.report import Figures, PairFigures, Report, TableRow, drift_figures
from fairlead.records import Interval, ModelPair

STARTS = {"sft": "SFT", "base": "the base model"}  # what DPO was trained from, for people


def decisive(report: Report) -> tuple[ModelPair, PairFigures] | None:
    """The comparison that DPO is judged by; None where no judge was asked for it."""
    for pair in (ModelPair("dpo", "sft"), ModelPair("dpo", "base")):
        figures = report.pairwise.get(str(pair))
        if figures is not None and figures.win_rate is not None:
            return pair, figures
    return None


def start_of(report: Report) -> str:
    """The model that DPO was trained from: sft, or base."""
    return "sft" if "sft" in report.answers else "base"


def conclusion(figures: PairFigures | TableRow) -> Conclusion:
    """What the published word says, without what could have been seen."""
    return next(conclusion for conclusion in Conclusion if figures.word.startswith(conclusion))


def rows_that(report: Report, concluded: Conclusion) -> list[TableRow]:
    """The metrics of which that was concluded."""
    return [row for row in report.table if conclusion(row) is concluded]


def longer_by(report: Report) -> float | None:
    """By which share DPO's answers are longer than before; None where it is not known."""
    before, after = (report.answers.get(model) for model in (start_of(report), "dpo"))
    if before is None or after is None or not before.mean_characters or after.mean_characters is None:
        return None
    return after.mean_characters / before.mean_characters - 1


def by_model(report: Report, name: str) -> dict[str, Interval]:
    """A figure of the drift by model; empty where it was not measured, or has no value."""
    figure = drift_figures(report.probe).get(name)
    if not isinstance(figure, dict):
        return {}
    return {model: interval for model, interval in figure.items() if interval.value is not None}


def number(figures: Figures, name: str) -> float | None:
    """A figure of a stage; None where it was not measured."""
    value = figures.get(name)
    return value if isinstance(value, int | float) else None
