"""`comparison.json` of `fairlead eval import`: models from elsewhere, compared in pairs. Field names are published."""

from __future__ import annotations

from fairlead.documents.base import Document
from fairlead.documents.evaluation import AnswerFigures, Caveat, MetricDifference, Plan
from fairlead.documents.report import DifferenceFigures, PairFigures
from fairlead.records import Interval


class ImportedRow(DifferenceFigures):
    """The difference of one metric, `first` minus `second`."""

    metric: str
    first: str
    second: str
    p_holm: float | None

    @classmethod
    def of(cls, difference: MetricDifference) -> ImportedRow:
        figures = DifferenceFigures.of_difference(difference).model_dump()
        names = {"first": difference.pair.candidate, "second": difference.pair.reference}
        return cls(**figures, metric=difference.metric, **names, p_holm=difference.p_holm)


class ImportedComparison(Document):
    """The comparison.

    Attributes:
        models: how many answers of each model there are.
        unanswered: how many are missing, of the models that lack some.
        plan: what the common prompts of each pair can show.
        pairwise: by pair, where a judge was asked.
        strengths: Bradley-Terry log-odds against the first model; None for two models, or without a judge.
        metrics: names of the project's metrics.
    """

    models: dict[str, int]
    unanswered: dict[str, int]
    judge: str | None
    plan: dict[str, Plan]
    missing: float
    pairwise: dict[str, PairFigures]
    table: tuple[ImportedRow, ...]
    strengths: dict[str, Interval] | None
    metrics: tuple[str, ...]
    answers: dict[str, AnswerFigures]
    warnings: tuple[Caveat, ...]
