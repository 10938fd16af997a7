"""The `watch` section of the YAML: how a DPO training is monitored, and the thresholds of its diagnosis."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from fairlead.config.base import Count, CountOrZero, FilePath, Fraction, NotNegative, Number, Positive, Section
from fairlead.documents.diagnosis import FailureMode


class Thresholds(Section):
    """Limits of the diagnosis' rules; `docs/diagnosis.md` says why each stands where it does."""

    renamed: ClassVar[dict[str, str]] = {
        "full_pull": "unsaturated_gradient_weight",
        "spent_pull": "saturated_gradient_weight",
        "spent_gap": "saturated_gap",
        "slack_pull": "unconstrained_gradient_weight",
        "loss_leap": "loss_spike",
    }

    warmup: Fraction = Field(0.3, description="share of the training after which rules on trends speak")
    reference_nats: Positive = Field(
        2.0,
        description="nats per token of both answers under the reference from which their form is strange",
    )
    prompt_gain: NotNegative = Field(
        0.1,
        description="nats per token that an answer's own prompt must be worth against another's; 0 demands nothing",
    )
    loss_fall: Positive = Field(0.02, description="the loss must fall below its start by this share of ln 2")
    validation_drop: Positive = Field(
        0.15, description="share of its best value that the validation gap must lose, while the training gap grows"
    )
    loss_rise: Positive = Field(
        0.15, description="share by which the validation loss must rise above its lowest value to count as overfitting"
    )
    stall: Fraction = Field(
        0.2, description="share by which the validation gap must still grow over the second half of its passes"
    )
    memorised: Annotated[Number, Field(gt=1)] = Field(
        1.5, description="times the stalled validation gap above which the training gap means memorised pairs"
    )
    small_kl: Positive = Field(0.5, description="KL in nats per answer under which the policy has hardly moved")
    small_gap: Positive = Field(
        2.0,
        description="nats between the log-ratios of chosen and rejected under which they are hardly told apart",
    )
    moved_kl: Positive = Field(0.1, description="KL in nats per answer from which the policy counts as moved at all")
    late: Fraction = Field(0.9, description="share of the training after which too little change is a finding")
    unsaturated_gradient_weight: Annotated[Number, Field(gt=0, lt=0.5)] = Field(
        0.45,
        description="weight σ(−gap) of a pair's gradient above which it is not β that holds the policy back",
    )
    saturated_gradient_weight: Annotated[Number, Field(gt=0, lt=0.5)] = Field(
        0.15,
        description="weight of a pair's gradient under which the loss is saturated: β lets the policy go no further",
    )
    saturated_gap: Positive = Field(
        3.0, description="nats between the log-ratios of chosen and rejected under which the loss saturated too early"
    )
    unconstrained_gradient_weight: Annotated[Number, Field(gt=0, lt=0.5)] = Field(
        0.475, description="weight of a pair's gradient above which nothing holds a policy that has left the reference"
    )
    general_rise: Positive = Field(0.1, description="nats per token that the loss on general text may rise")
    kl_per_token: Positive = Field(1.0, description="KL in nats per token from the reference that counts as a spike")
    loss_spike: Annotated[Number, Field(gt=1)] = Field(
        1.5, description="times its start that the loss may reach, averaged over five logged steps"
    )
    chosen_fall: Positive = Field(
        0.5, description="nats per token that the chosen answers' log-probability may fall; down to it that is normal"
    )
    length_growth: Positive = Field(0.15, description="share by which samples may grow longer than the reference's")
    longer_share: Fraction = Field(0.8, description="share of pairs with the longer answer chosen that teaches length")
    noisy_accuracy: Fraction = Field(
        0.72, description="validation accuracy under which labels contradict each other, if the policy has moved"
    )
    confidently_wrong: Fraction = Field(
        0.15, description="share of wrong ones among the pairs that the policy tells apart most clearly"
    )
    loops: Fraction = Field(0.1, description="share of samples that loop, above that of the reference's")
    cut: Fraction = Field(0.2, description="share of samples that reach the token limit, above that of the reference's")
    distinct_fall: Fraction = Field(0.5, description="share of the reference's distinct 2-grams that samples may lose")


class WatchSettings(Section):
    """How a DPO training is monitored, what stops it, and which weights are kept."""

    samples: CountOrZero = Field(
        32, description="fixed prompts on which the policy's own answers are drawn at every sample check; 0 draws none"
    )
    max_new_tokens: Count | None = Field(
        None, description="longest sample; 1.5 times the longest answer of the pairs if not given"
    )
    cost: Annotated[Number, Field(gt=0, lt=1)] = Field(
        0.1, description="share of the training's time that validation and samples may take together"
    )
    general: FilePath | None = Field(
        None, description="rows {prompt, answer} of general use (JSONL): their loss shows what the training forgets"
    )
    stop_on: list[FailureMode] = Field([], description="failure modes that end the training early, such as overfitting")
    keep: Literal["last", "best"] = Field(
        "last",
        description="best keeps the weights with the largest validation gap inside max_kl, last those at the end",
    )
    max_kl: Positive | None = Field(
        None,
        description="KL from the reference in nats per answer that keep: best may not exceed; no bound if not given",
    )
    thresholds: Thresholds = Field(Thresholds(), description="limits of the diagnosis' rules")

    @model_validator(mode="after")
    def _refuse_keys_that_nothing_reads(self) -> Self:
        if self.max_kl is not None and self.keep != "best":
            raise ValueError("max_kl is read only with keep: best")
        if self.max_kl is not None and self.samples == 0:
            raise ValueError("max_kl needs samples to be measured: set samples above 0")
        if self.max_new_tokens is not None and self.samples == 0:
            raise ValueError("max_new_tokens is read by nothing while samples is 0")
        return self
