"""The `gate`, `report` and `release` sections of the YAML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator

from fairlead.config.base import Count, CountOrZero, Number, Section
from fairlead.config.figures import is_of_a_row
from fairlead.config.values.arms import PROMPTED

NOT_WORSE_THAN_PROMPTED = 0.05  # of the win rate over the best prompt; a larger loss is one that users would notice
BOUNDS = ("above", "at_least", "below", "at_most")


class Criterion(Section):
    """One bound on a figure that the gate requires."""

    figure: str = Field(
        max_length=200, description="a path into report.json, such as pairwise.dpo_vs_sft.low or table.format.dpo"
    )
    above: Number | None = Field(None, description="the figure must be greater than this")
    at_least: Number | None = Field(None, description="the figure must be this or more")
    below: Number | None = Field(None, description="the figure must be less than this")
    at_most: Number | None = Field(None, description="the figure must be this or less")
    not_worse_by: Annotated[Number, Field(gt=0)] | None = Field(
        None, description="non-inferiority: the whole interval of table.<metric> or pairwise.<pair> lies above the loss"
    )

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if self.not_worse_by is not None:
            if self.bounds or not self.figure.startswith(("table.", "pairwise.")) or is_of_a_row(self.figure):
                raise ValueError("not_worse_by stands alone, with a figure table.<metric> or pairwise.<pair>")
        elif not self.bounds:
            raise ValueError("give at least one of above, at_least, below, at_most, or not_worse_by")
        lower = max((value for value in (self.above, self.at_least) if value is not None), default=-math.inf)
        upper = min((value for value in (self.below, self.at_most) if value is not None), default=math.inf)
        if lower > upper or (lower == upper and (self.above == lower or self.below == upper)):
            bounds = ", ".join(f"{name} {value:g}" for name, value in self.bounds.items())
            raise ValueError(f"no figure is {bounds}: the bounds contradict each other")
        return self

    @property
    def bounds(self) -> dict[str, float]:
        return {name: value for name in BOUNDS if (value := getattr(self, name)) is not None}


class GateSection(Section):
    """What a release must meet."""

    criteria: Annotated[list[Criterion], Field(min_length=1)] | None = Field(
        None,
        description="all must hold; paths into report.json; if not given: DPO is credibly better, no metric credibly "
        "worse, not worse than the best prompt, less than 2 % missing, no leak",
    )
    min_prompts: Count = Field(
        50, description="fewer eval prompts than this are not enough evidence, whatever they say"
    )


def default_criteria(pairs: Sequence[str], arms: Sequence[str] = ()) -> list[Criterion]:
    """The gate's criteria if the config has none, given the pairs that are judged and the arms of the comparison.

    DPO must be credibly better than what it was trained from; where no pair is judged, on a metric at least. It must
    not be worse than the best prompt, where that was measured.
    """
    judged = [pair for pair in ("dpo_vs_sft", "dpo_vs_base") if pair in pairs]
    better = Criterion(figure="metrics_better", at_least=1)
    return [
        Criterion(figure=f"pairwise.{judged[0]}.low", above=0.5) if judged else better,
        Criterion(figure="metrics_worse", at_most=0),
        *_against_prompted(pairs, arms),
        Criterion(figure="missing", below=0.02),
        Criterion(figure="leaks", at_most=0),
    ]


def _against_prompted(pairs: Sequence[str], arms: Sequence[str]) -> list[Criterion]:
    if PROMPTED not in arms:
        return []
    pair = f"dpo_vs_{PROMPTED}"
    if pair in pairs:
        return [Criterion(figure=f"pairwise.{pair}", not_worse_by=NOT_WORSE_THAN_PROMPTED)]
    return [Criterion(figure="metrics_worse_than_prompted", at_most=0)]


class ReleaseSettings(Section):
    """What the model card says, and how a hub repository is made."""

    license: str | None = Field(None, description="licence of the released weights, as an SPDX id")
    base_model: str | None = Field(None, description="hub id of the base model, where model.name is a folder or file")
    language: list[str] = Field([], description="languages of the model card, as in en")
    data: str = Field("", description="where the training data is from and under which licence, for the model card")
    private: bool = Field(True, description="a hub repository that the release makes is private")
    limits: str = Field("", description="what the model must not be used for, for the model card")


class ReportSection(Section):
    """What the report shows."""

    samples: CountOrZero = Field(10, description="answers shown side by side")
