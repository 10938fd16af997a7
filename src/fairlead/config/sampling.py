"""The `sample` and `pairs` sections: how completions are drawn and become preference pairs."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fairlead.config.base import (
    Count,
    CountOrZero,
    Distinct,
    FilePath,
    Fraction,
    ModelPath,
    NotInKey,
    NotNegative,
    Number,
    Section,
)

Recipe = Literal["best_worst", "all", "revision", "models"]
JudgedBy = Literal["comparisons", "scores"]


class SampleSection(Section):
    """How completions of the SFT model are drawn, from which pairs are built."""

    temperatures: Annotated[list[NotNegative], Field(min_length=1), Distinct] = Field(
        [0.7, 1.2], description="temperatures of the SFT model's completions, per prompt"
    )
    per_temperature: Count = Field(1, description="completions at each temperature")
    top_p: Annotated[Number, Field(gt=0, le=1)] = Field(1.0, description="nucleus; 1 keeps the whole distribution")
    max_new_tokens: Count = Field(256, description="longest completion, in tokens")
    few_shot: CountOrZero = Field(
        0, description="also draw completions after so many examples of data.sft; 0 draws none"
    )
    constitution: FilePath | None = Field(
        None,
        description="YAML file of principles: the model criticises and revises its first completion by one of them",
    )
    models: Annotated[list[ModelPath], Distinct] = Field(
        [], description="other models that answer too: folders or hub ids"
    )
    batch_size: Annotated[Count, NotInKey] = Field(
        32, description="completions generated at once; also the size of a resumable chunk"
    )

    @model_validator(mode="after")
    def _two_at_least(self) -> Self:
        others = bool(self.few_shot) + bool(self.constitution) + len(self.models)
        if len(self.temperatures) * self.per_temperature + others < 2:
            raise ValueError("a pair needs two completions per prompt: give two temperatures or per_temperature 2")
        reserved = sorted({"base", "sft", "dpo"} & set(self.models))
        if reserved:
            raise ValueError(
                f"models: {reserved[0]} is the name of this project's own model; write ./{reserved[0]} for a folder"
            )
        if self.per_temperature > 1 and 0 in self.temperatures:
            raise ValueError("temperature 0 gives one text: per_temperature above 1 would repeat it")
        return self


class PairsSection(Section):
    """How judged completions become preference pairs."""

    recipe: Recipe = Field(
        "best_worst",
        description="the best against the worst, all pairs above the margin, a revision that the judge prefers against "
        "what it revises, or answers of different models",
    )
    judged_by: JudgedBy = Field(
        "comparisons",
        description="scores asks for one score per completion instead of a verdict per pair; it has a margin",
    )
    margin: NotNegative = Field(
        0.0, description="a pair is kept when the winner is better by more than this, in the judge's units"
    )
    max_missing: Fraction = Field(0.1, description="share of judgements without a verdict above which the stage fails")
    validation: Fraction = Field(0.1, description="share of the pairs, whole prompts, kept out for validation")
