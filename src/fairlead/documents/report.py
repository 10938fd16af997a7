"""`report.json`, the interface for other programs. Its field names are published and stay.

Intervals are flat here, as in `dpo`, `dpo_low` and `dpo_high`; in all other documents they are nested.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import ConfigDict, Field, JsonValue, SerializerFunctionWrapHandler, field_serializer, model_serializer

from fairlead.documents.base import Document
from fairlead.documents.decision import Decision
from fairlead.documents.diagnosis import Diagnosis
from fairlead.documents.drift import DriftResult
from fairlead.documents.evaluation import (
    AnswerFigures,
    Arm,
    Caveat,
    Draws,
    HumanFigures,
    MetricDifference,
    MetricRow,
    PairResult,
    PeopleFigures,
    Plan,
    Slices,
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


IN_TABLE = ("dpo_vs_sft", "sft_vs_base")
"""Pairs whose differences stand in the rows of the table; so does dpo_vs_base where there is no SFT."""

ARM_COSTS = ("input_tokens", "output_tokens", "seconds_per_1000", "cost_per_1000")


class ArmFigures(Document):
    """An arm of the comparison, published.

    Attributes:
        what: the model, and what is put around the prompt.
        input_tokens, output_tokens: that an answer takes on average; None where an endpoint did not tell.
        seconds_per_1000: seconds of a thousand answers: computing time, or the sum of an endpoint's latencies.
        cost_per_1000: what they cost; None without prices.
        metrics: the mean of every row of the table.
    """

    what: str
    input_tokens: float | None
    output_tokens: float | None
    seconds_per_1000: float | None
    cost_per_1000: float | None
    metrics: dict[str, Interval]

    @classmethod
    def of(cls, arm: Arm, metrics: Mapping[str, Interval]) -> ArmFigures:
        usage = arm.per_1000_answers
        return cls(
            what=arm.what,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            seconds_per_1000=usage.seconds,
            cost_per_1000=usage.cost,
            metrics=dict(metrics),
        )


def figures_of_arms(arms: Mapping[str, Arm], table: Sequence[MetricRow]) -> dict[str, ArmFigures]:
    """Every arm of the comparison with its means, by name."""
    return {
        name: ArmFigures.of(arm, {row.metric: row.means[name] for row in table if name in row.means})
        for name, arm in arms.items()
    }


def further_differences(table: Sequence[MetricRow]) -> dict[str, dict[str, DifferenceFigures]]:
    """The differences that the rows of the table have no room for, by pair and metric."""
    figures: dict[str, dict[str, DifferenceFigures]] = {}
    for row in table:
        for difference in row.further:
            figures.setdefault(str(difference.pair), {})[row.metric] = DifferenceFigures.of_difference(difference)
    return figures


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


_WHERE_MEASURED = ("arms", "differences", "slices", "draws")  # fields that are left out where there are none


class Report(Document):
    """The content of `report.json`.

    Attributes:
        arms: everything that answered the held-out prompts.
        differences: of further pairs of arms, by pair and metric; those of the table's models stand in its rows.
        slices: DPO over what it was trained from, slice by slice.
        draws: what several answers to a prompt brought.
    """

    model_config = ConfigDict(serialize_by_alias=True, populate_by_name=True)

    schema_version: int = Field(SCHEMA, alias="schema")
    name: str
    seed: int
    table: tuple[TableRow, ...]
    arms: dict[str, ArmFigures] = Field(default_factory=dict)
    differences: dict[str, dict[str, DifferenceFigures]] = Field(default_factory=dict)
    slices: Slices | None = None
    draws: Draws | None = None
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

    @model_serializer(mode="wrap")
    def _without_what_is_not_there(self, serialize: SerializerFunctionWrapHandler) -> dict[str, JsonValue]:
        content: dict[str, JsonValue] = serialize(self)
        return {name: value for name, value in content.items() if value or name not in _WHERE_MEASURED}

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
