"""`comparison.json`, what the comparison persists: metrics, win rates, caveats; and `arms.json`, who answered."""

from __future__ import annotations

from enum import StrEnum

from fairlead.documents.base import Document
from fairlead.documents.decision import Usage
from fairlead.records import Interval, ModelPair

UNKNOWN_TRAINING = "unknown_training_data"
SHARED_JUDGE = "shared_judge"  # also a figure of the gate
CAVEATS = (
    "few_prompts",
    "missing_verdicts",
    "order",
    "length",
    "opposed_metrics",
    "multiple_metrics",
    "cut",
    "loops",
    "repeated_answer",
    "people",
    "labels",
    UNKNOWN_TRAINING,
    SHARED_JUDGE,
)
"""Every name that a caveat can have."""


class Conclusion(StrEnum):
    """What a figure with an interval may be called, given the value that means no difference."""

    BETTER = "better"
    WORSE = "worse"
    NOT_SHOWN = "no difference shown"
    UNDEFINED = "undefined"  # there is no interval


def conclusion_text(conclusion: Conclusion, detectable: float | None) -> str:
    """A conclusion for people; where no difference was shown, with the smallest one that would have been seen."""
    if conclusion is Conclusion.NOT_SHOWN and detectable is not None:
        return f"{conclusion} (could have seen ±{detectable:.3f})"
    return str(conclusion)


class Plan(Document):
    """What a number of prompts can show, as a distance of a win rate from 50 %; None where nothing can be shown.

    Attributes:
        at_best: if prompts of one cluster are independent.
        at_worst: if each cluster counts as one prompt.
    """

    prompts: int
    clusters: int
    at_best: float | None
    at_worst: float | None


class Caveat(Document):
    """A reason to doubt a comparison, in words; what it is about has a fixed name."""

    name: str
    text: str


class MostCommon(Document):
    """The beginning of the answer that was given most often, and how often."""

    text: str
    times: int


class AnswerFigures(Document):
    """What the answers of one model are like.

    Attributes:
        n: answers.
        cut: share that the token limit ended; None where it is unknown.
        loops: share that repeat themselves without end.
    """

    n: int
    mean_characters: float | None
    cut: float | None
    loops: float | None
    most_common: MostCommon


class MetricDifference(Document):
    """Difference of one metric, candidate minus reference, paired by prompt.

    Attributes:
        delta: the mean difference over the prompts that have both values.
        missing: prompts that lack one.
        detectable: the smallest true difference that so many prompts with this spread show in 8 of 10 evaluations.
        delta_worst, delta_best: the difference if every missing score took its worst, or best, value; None for a
            check, which is undefined for a prompt and never missing.
        p: of the sign-flip test of the differences.
        p_holm: the same after Holm's correction over all metrics; None where it is not part of that family.
    """

    metric: str
    pair: ModelPair
    delta: Interval
    missing: int
    conclusion: Conclusion
    detectable: float | None
    delta_worst: float | None
    delta_best: float | None
    p: float | None
    p_holm: float | None = None

    @property
    def text(self) -> str:
        return conclusion_text(self.conclusion, self.detectable)


class MetricRow(Document):
    """One metric of every model, on the prompts for which all of them have a value.

    Attributes:
        means: by model.
        difference: of DPO over SFT; over the base where there is no SFT.
        sft_over_base: the same of SFT over the base; None where there is no SFT.
        further: the same of every other pair of arms that is compared.
    """

    means: dict[str, Interval]
    difference: MetricDifference
    sft_over_base: MetricDifference | None
    further: tuple[MetricDifference, ...] = ()

    @property
    def metric(self) -> str:
        return self.difference.metric


class Arm(Document):
    """One arm.

    Attributes:
        what: the model, and what is put around the prompt, in words.
        per_1000_answers: what it took on the held-out prompts.
        here: whether it computed on the project's machine, so that its cost follows from that of an hour.
    """

    what: str
    per_1000_answers: Usage
    here: bool = False

    def priced(self, price_per_hour: float | None) -> Arm:
        """The arm with its cost by the price of an hour of the project's machine, if it ran there."""
        usage = self.per_1000_answers
        if not self.here or usage.seconds is None or price_per_hour is None:
            return self
        cost = usage.seconds / 3600 * price_per_hour
        return self.model_copy(update={"per_1000_answers": usage.model_copy(update={"cost": cost})})


class Arms(Document):
    """`arms.json`: the arms that one stage had answer, by name."""

    arms: dict[str, Arm]


class PeopleFigures(Document):
    """What people say of two models, beside the judge.

    Attributes:
        people: the win rate by the labels alone.
        judge: the win rate by the judge over the same comparisons; one without a verdict counts half.
        labels: comparisons that people labelled.
        weight: how much of the judge's variation is believed; None with too few labels.
        correlation: of people and judge on the labelled comparisons.
        kappa_judge: Cohen's κ of people and judge on them.
        kappa_people: Cohen's κ of every two reviewers, by "NAME and NAME".
    """

    people: Interval
    judge: Interval
    labels: int
    reviewers: int
    weight: float | None
    correlation: float | None
    kappa_judge: Interval
    kappa_people: dict[str, Interval]


class HumanFigures(PeopleFigures):
    """The same with the judge's win rate corrected by the labels.

    Attributes:
        anchored: that win rate.
    """

    anchored: Interval


class PairResult(Document):
    """What a judge said of two models.

    Attributes:
        win_rate: of the candidate, ties half, over all pairs that were judged, each with the mean of its orders.
        missing: verdicts that are none.
        states: how many verdicts of each state.
        detectable: the smallest true difference from 50 % that would have been seen in 8 of 10 such comparisons.
        worst, best: the win rate if every missing verdict were a loss, and if every one were a win.
        consistent: the win rate over the pairs alone whose orders agree.
        pooled: the win rate over the single votes of all orders, those of one prompt one group.
        sign_test_p: of the pairs above a half against those below.
        length_adjusted: the win rate at equal length; None where lengths were not compared.
        human: what people say of it; None where nobody was asked.
    """

    pair: ModelPair
    win_rate: Interval
    missing: int
    states: dict[str, int]
    conclusion: Conclusion
    detectable: float | None
    worst: float | None
    best: float | None
    consistent: Interval
    pooled: Interval
    sign_test_p: float | None
    length_adjusted: Interval | None
    human: HumanFigures | None = None

    @property
    def text(self) -> str:
        return conclusion_text(self.conclusion, self.detectable)


class SliceResult(Document):
    """The comparison on the prompts of one slice.

    Attributes:
        differences: of every metric, with Holm's correction over all slices.
        win_rate: ties half; None without verdicts.
        p: of the sign test of the verdicts; `p_holm` after the same correction.
    """

    slice: str
    prompts: int
    differences: tuple[MetricDifference, ...]
    win_rate: Interval | None
    p: float | None
    p_holm: float | None = None


class Slices(Document):
    """DPO over what it was trained from, slice by slice.

    Attributes:
        by: the gold field whose values are the slices, or cluster.
        left_out: prompts that are in no slice, or in one too small to say anything.
    """

    by: str
    pair: ModelPair
    slices: tuple[SliceResult, ...]
    left_out: int


class Draws(Document):
    """Several answers to every prompt, which count as one cluster.

    Attributes:
        width_ratio: of every metric, how wide the interval of DPO's difference is by that with one answer.
    """

    per_prompt: int
    width_ratio: dict[str, float]


class EvalResult(Document):
    """The comparison.

    Attributes:
        prompts: held-out prompts.
        missing: share of all judgements that are missing.
        judge: identity of the judge; None where none was asked.
        score_states: how many scores of each state; None where none were asked for.
        flagged: verdicts that people should look at.
        panel_disagreement: share of a panel's judgements on which its members disagreed.
        answers: by arm.
        slices: the same slice by slice; None where `eval.slices` names nothing.
        draws: what several answers to a prompt brought; None where there is one.
    """

    table: tuple[MetricRow, ...]
    pairwise: tuple[PairResult, ...]
    prompts: int
    missing: float
    judge: str | None
    score_states: dict[str, int] | None
    flagged: int
    panel_disagreement: float | None
    plan: Plan
    answers: dict[str, AnswerFigures]
    caveats: tuple[Caveat, ...]
    slices: Slices | None = None
    draws: Draws | None = None

    @property
    def decisive(self) -> PairResult | None:
        """The result that DPO is judged by: over SFT, or over the base where only that was judged."""
        return self.result_of(ModelPair("dpo", "sft")) or self.result_of(ModelPair("dpo", "base"))

    def result_of(self, pair: ModelPair) -> PairResult | None:
        """What the judge said of a pair; None where it was not asked."""
        return next((result for result in self.pairwise if result.pair == pair), None)
