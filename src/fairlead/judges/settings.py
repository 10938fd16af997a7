"""The `judge` section of the YAML. Knows nobody, so that the config can be read without loading a judge."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from fairlead.checks import CheckSettings


class _JudgeSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RubricSettings(_JudgeSettings):
    """Declared checks and gold fields, for tasks whose quality can be computed."""

    kind: Literal["rubric"]
    checks: Annotated[list[CheckSettings], Field(min_length=1)] = Field(description="weighted checks; the sum decides")
    tie_margin: Annotated[float, Field(ge=0)] = Field(
        0.0, description="totals (0 to 1) that differ by no more than this are a tie"
    )


class OpenAISettings(_JudgeSettings):
    """A model behind an OpenAI-compatible endpoint."""

    kind: Literal["openai"]
    model: str = Field(description="the judge model's name on the endpoint")
    base_url: str | None = Field(None, description="endpoint; OpenAI's own if not given")
    api_key_env: str | None = Field(
        "OPENAI_API_KEY", description="environment variable that holds the key; null for servers without one"
    )
    temperature: Annotated[float, Field(ge=0)] = Field(0.0, description="0 is the steadiest")
    max_tokens: Annotated[int, Field(ge=1)] = Field(1024, description="longest reply of the judge, in tokens")
    both_orders: bool = Field(True, description="ask with the answers in both orders; disagreement is no verdict")
    concurrency: Annotated[int, Field(ge=1)] = Field(8, description="requests under way at once")
    timeout: Annotated[float, Field(gt=0)] = Field(60.0, description="seconds until a request counts as failed")
    max_retries: Annotated[int, Field(ge=0)] = Field(5, description="tries after a transient failure")
    max_calls: Annotated[int, Field(ge=1)] | None = Field(
        None, description="calls one run may make; it stops there, and a rerun goes on"
    )
    criteria: str = Field(
        "helpful, correct, clear, and exactly what was asked for", description="what makes an answer good"
    )
    max_chars: Annotated[int, Field(ge=100)] = Field(8000, description="longer texts are shown cut, with a note")


JudgeSettings = Annotated[RubricSettings | OpenAISettings, Field(discriminator="kind")]
