"""`report.json`, the interface for other programs. Its field names are published and stay.

Intervals are flat here, as in `dpo`, `dpo_low` and `dpo_high`; in all other documents they are nested.
"""

from __future__ import annotations

from pydantic import ConfigDict, Field, JsonValue, SerializerFunctionWrapHandler, field_serializer, model_serializer

from fairlead.documents.base import Document
from fairlead.documents.decision import Decision
from fairlead.documents.diagnosis import Diagnosis
from fairlead.documents.drift import DriftResult
from fairlead.documents.evaluation import (
    AnswerFigures,
    Caveat,
    HumanFigures,
    MetricDifference,
    MetricRow,
    PairResult,
    PeopleFigures,
    Plan,
)
from fairlead.documents.gate import Candidate, CandidateResult, CriterionResult, Status
from fairlead.records import Interval

SCHEMA = 1
Figures = dict[str, JsonValue]  # what a stage measured, for people
Drift = dict[str, Interval | dict[str, Interval]]  # figures by name, where there are several by model


class DifferenceFigures(Document):
    """`MetricDifference`, published."""

    delta: float | None
    delta_low: float | None
    delta_high: float | None
    n: int
    missing: int
    word: str
    detectable: float | None
    delta_worst: float | None
    delta_best: float | None
    p: float | None

    @classmethod
    def of_difference(cls, difference: MetricDifference) -> DifferenceFigures:
        return DifferenceFigures(**_difference(difference))


def _difference(difference: MetricDifference) -> dict[str, float | int | str | None]:
    return {
        "delta": difference.delta.value,
        "delta_low": difference.delta.low,
        "delta_high": difference.delta.high,
        "n": difference.delta.n,
        "missing": difference.missing,
        "word": difference.text,
        "detectable": difference.detectable,
        "delta_worst": difference.delta_worst,
        "delta_best": difference.delta_best,
        "p": difference.p,
    }


class TableRow(DifferenceFigures):
    """`MetricRow`, published: the difference is that of DPO over `against`."""

    metric: str
    base: float | None
    base_low: float | None
    base_high: float | None
    sft: float | None
    sft_low: float | None
    sft_high: float | None
    dpo: float | None
    dpo_low: float | None
    dpo_high: float | None
    against: str
    p_holm: float | None
    sft_over_base: DifferenceFigures | None

    @classmethod
    def of_row(cls, row: MetricRow) -> TableRow:
        means: dict[str, float | None] = {}
        for model in ("base", "sft", "dpo"):
            mean = row.means.get(model)
            value, low, high = (None, None, None) if mean is None else (mean.value, mean.low, mean.high)
            means |= {model: value, f"{model}_low": low, f"{model}_high": high}
        return cls.model_validate(
            {
                "metric": row.metric,
                **means,
                **_difference(row.difference),
                "against": row.difference.pair.reference,
                "p_holm": row.difference.p_holm,
                "sft_over_base": row.sft_over_base and DifferenceFigures.of_difference(row.sft_over_base),
            }
        )


class HumanPairFigures(PeopleFigures):
    """`HumanFigures`, published: the win rate is the judge's, corrected by the labels."""

    win_rate: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, figures: HumanFigures) -> HumanPairFigures:
        rate = figures.anchored
        others = {name: getattr(figures, name) for name in PeopleFigures.model_fields}
        return cls(win_rate=rate.value, low=rate.low, high=rate.high, **others)


class PairFigures(Document):
    """`PairResult`, published. The field `human` is only there where people labelled answers."""

    win_rate: float | None
    low: float | None
    high: float | None
    n: int
    missing: int
    states: dict[str, int]
    word: str
    detectable: float | None
    worst: float | None
    best: float | None
    consistent: Interval
    pooled: Interval
    sign_test_p: float | None
    length_adjusted: Interval | None
    human: HumanPairFigures | None = None

    @model_serializer(mode="wrap")
    def _with_human_where_asked(self, serialize: SerializerFunctionWrapHandler) -> dict[str, JsonValue]:
        content: dict[str, JsonValue] = serialize(self)
        return content if self.human is not None else {n: v for n, v in content.items() if n != "human"}

    @classmethod
    def of(cls, result: PairResult) -> PairFigures:
        rate = result.win_rate
        return cls(
            win_rate=rate.value,
            low=rate.low,
            high=rate.high,
            n=rate.n,
            missing=result.missing,
            states=result.states,
            word=result.text,
            detectable=result.detectable,
            worst=result.worst,
            best=result.best,
            consistent=result.consistent,
            pooled=result.pooled,
            sign_test_p=result.sign_test_p,
            length_adjusted=result.length_adjusted,
            human=None if result.human is None else HumanPairFigures.of(result.human),
        )


class Judgements(Document):
    """Every judgement of the run by its state.

    Attributes:
        verdicts: by pair of models, and of the pairs that DPO was trained on.
        flagged, panel_disagreement: of the training pairs and of the comparison.
    """

    verdicts: dict[str, dict[str, int]]
    scores: dict[str, int] | None
    flagged: dict[str, int | None]
    panel_disagreement: dict[str, float | None]


class GateSummary(Document):
    """What the gate said; the whole record is gate.json."""

    status: Status
    criteria: tuple[CriterionResult, ...]
    candidates: dict[Candidate, CandidateResult]
    advice: str


class StageRecord(Document):
    """A stage's artifact: when it was made, and by which key and content hash it is known."""

    seconds: float
    hash: str
    artifact: str


class TrainedStageRecord(StageRecord):
    """That of DPO, with what its monitor saw; None where nothing was monitored."""

    watch: Diagnosis | None


class Lineage(Document):
    """What an artifact was made from and what it holds, by content."""

    inputs: dict[str, str]
    config: dict[str, JsonValue]
    files: dict[str, str]
    versions: dict[str, str]


class Report(Document):
    """The content of `report.json`."""

    model_config = ConfigDict(serialize_by_alias=True, populate_by_name=True)

    schema_version: int = Field(SCHEMA, alias="schema")
    name: str
    seed: int
    table: tuple[TableRow, ...]
    pairwise: dict[str, PairFigures]
    decision: Decision
    prompts: int
    missing: float
    judge: str | None
    plan: Plan
    warnings: tuple[Caveat, ...]
    answers: dict[str, AnswerFigures]
    judgements: Judgements
    probe: DriftResult | None
    gate: GateSummary
    figures: dict[str, Figures]
    stages: dict[str, TrainedStageRecord | StageRecord]
    lineage: dict[str, Lineage]
    versions: dict[str, str]

    @field_serializer("decision")
    def _decision_as_written(self, decision: Decision) -> dict[str, JsonValue]:
        return decision.content()

    @field_serializer("probe")
    def _drift_as_written(self, probe: DriftResult | None) -> dict[str, JsonValue] | None:
        return None if probe is None else probe.content()


def drift_figures(drift: DriftResult | None) -> Drift:
    """What was measured of the drift, by its published name."""
    if drift is None:
        return {}
    figures: dict[str, Interval | dict[str, Interval] | None] = {
        name: getattr(drift, name) for name in DriftResult.model_fields
    }
    figures |= drift.general
    return {name: figure for name, figure in figures.items() if figure is not None}
