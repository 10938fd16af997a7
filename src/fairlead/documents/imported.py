"""What the commands on answers and verdicts from elsewhere write or print as JSON. Field names are published."""

from __future__ import annotations

from pydantic import Field

from fairlead.documents.base import Document
from fairlead.documents.evaluation import AnswerFigures, Caveat, MetricDifference, Plan
from fairlead.documents.report import ArmFigures, DifferenceFigures, PairFigures
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
    """`comparison.json` of `fairlead eval import`: models from elsewhere, compared in pairs.

    Attributes:
        models: how many answers of each model there are.
        unanswered: how many are missing, of the models that lack some.
        plan: what the common prompts of each pair can show.
        pairwise: by pair, where a judge was asked.
        strengths: Bradley-Terry log-odds against the first model; None for two models, or without a judge.
        metrics: names of the metrics.
        arms: what answered, and what it took; empty where the answers were made elsewhere.
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
    arms: dict[str, ArmFigures] = Field(default_factory=dict)


class PercentInterval(Document):
    """An interval in percent, with its level."""

    value: float | None
    low: float | None
    high: float | None
    level: float
    n: int
    method: str

    @classmethod
    def of(cls, interval: Interval, level: float) -> PercentInterval:
        value, low, high = (None if end is None else 100 * end for end in (interval.value, interval.low, interval.high))
        return cls(value=value, low=low, high=high, level=level, n=interval.n, method=interval.method)


class AnnotationFigures(Document):
    """What `fairlead eval stats` says of one model against one baseline; rates and interval ends in percent.

    A row that repeats an earlier one in all that is read of it counts once. Rows of one prompt that differ all count,
    and `repeated_prompts` says how many prompts have them. A figure that is undefined is None.

    Attributes:
        rows, n, missing: rows of the file; verdicts; rows without one, of which `missing_reasons` says why.
        win_rate, standard_error: AlpacaEval's: mean of preference - 1, and sd / √n.
        discrete_win_rate: AlpacaEval's: each verdict rounded to a win, draw or loss.
        mean_length: characters of the model's answers, the fraction cut off; `mean_length_exact` keeps it.
        interval: of the win rate; rows of one prompt or cluster counted as one group.
        length_adjusted_win_rate: not the leaderboard's, see `statistics.win_rate`.
        sign_test_p: over decided verdicts.
        win_rate_if_missing_lost, win_rate_if_missing_won: if all missing verdicts were losses, or wins.
    """

    file: str
    format: str
    model: str | None
    baseline: str | None
    judge: str | None
    rows: int
    n: int
    missing: int
    missing_reasons: dict[str, int]
    identical_rows: int
    repeated_prompts: int
    win_rate: float | None
    standard_error: float | None
    wins: int
    losses: int
    draws: int
    discrete_win_rate: float | None
    mean_length: int
    mean_length_exact: float
    interval: PercentInterval
    length_adjusted_win_rate: PercentInterval
    sign_test_p: float | None
    win_rate_if_missing_lost: float | None
    win_rate_if_missing_won: float | None
    warnings: tuple[str, ...]
