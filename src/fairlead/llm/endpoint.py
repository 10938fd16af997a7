"""What a client needs to know of an endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fairlead.config.judges import AnthropicSettings, OpenAISettings
from fairlead.config.values.asked_models import EndpointModel


@dataclass(frozen=True)
class Endpoint:
    """One model behind one address.

    Attributes:
        kind: the API it speaks.
        base_url: None is the provider's own.
        api_key_env: environment variable with the key; None for servers without one.
        temperature: None leaves it to the endpoint.
        structured: whether JSON of a fixed form is asked for.
        section: where its settings stand in the YAML, for messages.
    """

    kind: Literal["openai", "anthropic"]
    model: str
    max_tokens: int
    timeout_s: float
    base_url: str | None = None
    api_key_env: str | None = None
    temperature: float | None = None
    structured: bool = False
    section: str = "the judge section"

    @classmethod
    def of_judge(cls, judge: OpenAISettings | AnthropicSettings) -> Endpoint:
        """The endpoint of a judge."""
        return cls(
            judge.kind,
            judge.model,
            judge.max_tokens,
            judge.timeout_s,
            base_url=judge.base_url,
            api_key_env=judge.api_key_env,
            temperature=judge.temperature,
            structured=judge.structured == "auto",
        )

    @classmethod
    def of_model(cls, model: EndpointModel, max_tokens: int) -> Endpoint:
        """The endpoint of a model that the decision compares, with answers of at most `max_tokens`."""
        return cls(
            model.kind,
            model.model,
            max_tokens,
            model.timeout_s,
            base_url=model.base_url,
            api_key_env=model.key_variable,
            temperature=model.temperature if model.kind == "openai" else None,
            section="the decide section",
        )
