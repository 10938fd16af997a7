"""Settings of the checks on preference data. Imports no other room, so that reading the config stays fast."""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from fairlead.config.base import Count, DatasetPath, FilePath, Fraction, NamesInKey, Section

Purpose = Literal["trial", "effect", "reliance"]
CheckName = Literal[
    "unusable",
    "empty",
    "identical",
    "equal_ratings",
    "exact_duplicates",
    "near_duplicates",
    "contradictory",
    "truncated",
    "too_long",
    "looping",
    "template_tokens",
    "mixed_languages",
    "secrets",
    "email_addresses",
    "length",
    "margins",
    "eval_overlap",
    "topics",
    "rows",
]
CHECK_NAMES: tuple[str, ...] = get_args(CheckName)
PAIRS_DEMANDED: dict[Purpose, int] = {"trial": 0, "effect": 500, "reliance": 1000}
"""With fewer pairs than its purpose demands, the check `rows` fails."""


class DataCheckSettings(Section):
    """What the checks of the preference pairs demand before DPO trains on them."""

    purpose: Purpose = Field(
        "trial",
        description="what the pairs are for: trial, to see an effect (500 pairs) or reliance on it (1,000 pairs)",
    )
    waive: Annotated[dict[CheckName, Annotated[str, Field(min_length=1)]], NamesInKey] = Field(
        {}, description="checks that may fail, each with the reason; the reason stands in the report"
    )

    drop: list[CheckName] = Field(
        [], description="checks whose rows are left out of the pairs, and counted; see fairlead data check"
    )

    @field_validator("drop")
    @classmethod
    def _about_rows(cls, drop: list[CheckName]) -> list[CheckName]:
        none = [name for name in drop if name in ("length", "topics", "rows")]
        if none:
            raise ValueError(f"{none[0]} is about no rows that could be dropped")
        return drop

    @field_validator("waive")
    @classmethod
    def _reasons(cls, waive: dict[CheckName, str]) -> dict[CheckName, str]:
        blank = [name for name, reason in waive.items() if not reason.strip()]
        if blank:
            raise ValueError(f"{blank[0]} is waived without a reason")
        return waive


class DataSection(Section):
    """The data files, and how prompts are kept apart."""

    sft: FilePath | None = Field(None, description="rows {prompt, answer} that SFT learns from (JSON, JSONL, Parquet)")
    prompts: FilePath | None = Field(
        None, description="rows {prompt, gold?} whose completions are sampled and judged into preference pairs"
    )
    preferences: DatasetPath | None = Field(
        None,
        description="ready preference pairs instead of sampled ones: a JSON, JSONL or Parquet file, or a hub id",
    )
    preferences_split: str = Field("train", description="split of a hub data set of preferences")
    preferences_format: str | None = Field(None, description="name of the rows' form, where detecting it goes wrong")
    eval: FilePath = Field(description="rows {prompt, gold?} held out for the comparison; never trained on")
    dev: FilePath | None = Field(
        None, description="rows {prompt, gold?} on which the decision is made; never trained on, and none of eval"
    )
    dev_prompts: Count = Field(
        150,
        description="without data.dev: training prompts that are kept out for the decision, at most a fifth of them",
    )
    system: str | None = Field(None, description="system instruction put before every prompt that has none")
    similarity: Fraction = Field(
        0.8, description="Jaccard similarity of 5-word shingles from which two prompts count as near-duplicates"
    )
    on_leak: Literal["drop", "fail"] = Field(
        "drop",
        description="a training row whose prompt is an eval prompt, or nearly: drop the row (counted), or fail",
    )

    @model_validator(mode="after")
    def _one_source_of_pairs(self) -> Self:
        if self.prompts and self.preferences:
            raise ValueError(
                "set either data.prompts (pairs are built) or data.preferences (pairs are ready), not both"
            )
        return self
