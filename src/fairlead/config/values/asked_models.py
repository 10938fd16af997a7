"""Models that are asked besides the project's own: on this machine, or behind an endpoint."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fairlead.config.base import Count, CountOrZero, ModelPath, NotInKey, NotNegative, Positive, Section
from fairlead.config.values.endpoint import OptionalKeyVariable, OptionalUrl, check_prices


class LocalModel(Section):
    """Another model on this machine."""

    kind: Literal["local"]
    model: ModelPath = Field(description="model folder or hub id")
    name: str | None = Field(None, description="its name in the table; the model's if not given")
    batch_size: Annotated[Count, NotInKey] = Field(32, description="answers generated at once")
    price_per_hour: Annotated[NotNegative | None, NotInKey] = Field(
        None, description="price of an hour of the machine it runs on"
    )


class EndpointModel(Section):
    """A model behind an OpenAI-compatible endpoint or Anthropic's API."""

    kind: Literal["openai", "anthropic"]
    model: str = Field(description="the model's name on the endpoint")
    name: str | None = Field(None, description="its name in the table; the model's if not given")
    base_url: OptionalUrl = Field(None, description="endpoint; the provider's own if not given")
    api_key_env: OptionalKeyVariable = Field(
        None, description="variable that holds the key; the provider's usual one if neither it nor base_url is given"
    )
    temperature: NotNegative | None = Field(0.0, description="null leaves it to models that accept none; openai only")
    context_tokens: Count | None = Field(None, description="tokens it can attend to; null puts no limit")
    concurrency: Annotated[Count, NotInKey] = Field(16, description="most requests under way at once")
    timeout_s: Annotated[Positive, NotInKey] = Field(120.0, description="seconds until a request counts as failed")
    max_retries: Annotated[CountOrZero, NotInKey] = Field(8, description="tries after a transient failure")
    max_calls: Annotated[Count | None, NotInKey] = Field(
        None, description="calls the stage may make in one run; a rerun resumes there"
    )
    max_cost: Annotated[Positive | None, NotInKey] = Field(
        None, description="money the stage may spend in one run; a rerun resumes there"
    )
    price_per_million_input_tokens: Annotated[NotNegative | None, NotInKey] = Field(
        None, description="price of a million tokens it reads"
    )
    price_per_million_output_tokens: Annotated[NotNegative | None, NotInKey] = Field(
        None, description="price of a million tokens it writes"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_prices(self.price_per_million_input_tokens, self.price_per_million_output_tokens, self.max_cost)
        if self.kind == "anthropic" and "temperature" in self.model_fields_set:
            raise ValueError("temperature is for kind openai only")
        return self

    @property
    def key_variable(self) -> str | None:
        """Name of the environment variable with the key; None for servers without keys."""
        if self.api_key_env is not None:
            return self.api_key_env
        if self.kind == "anthropic":
            return "ANTHROPIC_API_KEY"
        return None if self.base_url else "OPENAI_API_KEY"


ModelSettings = Annotated[LocalModel | EndpointModel, Field(discriminator="kind")]


def name_of(model: LocalModel | EndpointModel) -> str:
    """The name of a model in the table."""
    return model.name or model.model
