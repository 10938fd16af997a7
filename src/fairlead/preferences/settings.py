"""Settings of the checks on preference data. Knows nobody, so that the config can be read without loading them."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

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


class DataCheckSettings(BaseModel):
    """The `data_check` section of the YAML."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    purpose: Purpose = Field(
        "trial",
        description="what the pairs are for: trial, to see an effect (500 pairs) or reliance on it (1,000 pairs)",
    )
    waive: dict[CheckName, Annotated[str, Field(min_length=1)]] = Field(
        {}, description="checks that may fail, each with the reason; the reason stands in the report"
    )

    drop: list[CheckName] = Field(
        [], description="checks whose rows are left out before training, and counted; see fairlead data check"
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
