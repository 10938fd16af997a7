"""The `judge` section of the YAML: settings, or one line of text that stands for them.

Imports no other room, so that reading the config loads no judge.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from fairlead.config.base import (
    Count,
    CountOrZero,
    FilePath,
    Fraction,
    Integer,
    ModelPath,
    NeverQuoted,
    NotInKey,
    NotNegative,
    Number,
    Positive,
    Section,
)
from fairlead.config.checks import CheckSettings
from fairlead.config.loading.explain import explain
from fairlead.config.loading.judge_text import expand_judges, read_judge
from fairlead.config.values.endpoint import KeyVariable, OptionalKeyVariable, OptionalUrl, check_prices
from fairlead.errors import ConfigError


class RubricSettings(Section):
    """Declared checks and gold fields, for tasks whose quality can be computed."""

    kind: Literal["rubric"]
    checks: Annotated[list[CheckSettings], Field(min_length=1)] = Field(description="weighted checks; the sum decides")
    tie_margin: NotNegative = Field(0.0, description="totals (0 to 1) that differ by no more than this are a tie")

    @model_validator(mode="after")
    def _checks_count(self) -> Self:
        names = [check.name for check in self.checks]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"checks has two named {twice[0]}")
        if not any(check.weight for check in self.checks):
            raise ValueError("every check has weight 0, so nothing would be judged")
        return self


class PromptedSettings(Section):
    """Settings of every judge that is a language model."""

    criteria: str = Field(
        "helpful, correct, clear, and exactly what was asked for", description="what makes an answer good"
    )
    both_orders: bool = Field(True, description="ask with the answers in both orders; disagreement is no verdict")
    max_tokens: Count = Field(1024, description="longest reply of the judge, in tokens")
    max_chars: Annotated[Integer, Field(ge=100)] = Field(
        8000, description="longer prompts and answers are shown cut, with a note"
    )
    pairwise_template: FilePath | None = Field(
        None, description="file of your own prompt for two answers; the built-in pairwise_v1 if not given"
    )
    score_template: FilePath | None = Field(
        None, description="file of your own prompt for one answer; the built-in score_v1 if not given"
    )
    correction_template: FilePath | None = Field(
        None, description="file of your own words after an unreadable reply; the built-in correction_v1 if not given"
    )


class EndpointSettings(PromptedSettings):
    """Settings of every judge behind an endpoint: address, retries and budget."""

    model: str = Field(description="the judge model's name on the endpoint")
    base_url: OptionalUrl = Field(None, description="endpoint; the provider's own if not given")
    concurrency: Annotated[Count, NotInKey] = Field(
        64, description="most requests under way at once; the server's own limit is found"
    )
    timeout_s: Annotated[Positive, NotInKey] = Field(120.0, description="seconds until a request counts as failed")
    max_retries: Annotated[CountOrZero, NotInKey] = Field(8, description="tries after a transient failure")
    max_calls: Annotated[Count | None, NotInKey] = Field(
        None, description="calls one stage of a run may make; it stops there, and a rerun resumes there"
    )
    max_cost: Annotated[Positive | None, NotInKey] = Field(
        None,
        description="money one stage of a run may spend, in the currency of the prices; a rerun resumes there",
    )
    price_per_million_input_tokens: Annotated[NotNegative | None, NotInKey] = Field(
        None, description="price of a million tokens that the judge reads"
    )
    price_per_million_output_tokens: Annotated[NotNegative | None, NotInKey] = Field(
        None, description="price of a million tokens that the judge writes"
    )

    @model_validator(mode="after")
    def _prices(self) -> Self:
        check_prices(self.price_per_million_input_tokens, self.price_per_million_output_tokens, self.max_cost)
        return self


class OpenAISettings(EndpointSettings):
    """A model behind an OpenAI-compatible endpoint: hosted, vLLM, llama.cpp, Ollama."""

    kind: Literal["openai"]
    api_key_env: OptionalKeyVariable = Field(
        "OPENAI_API_KEY", description="environment variable that holds the key; null for servers without one"
    )
    temperature: NotNegative | None = Field(
        0.0, description="0 is the steadiest; null leaves it to models that accept none"
    )
    structured: Literal["auto", "off"] = Field(
        "auto", description="auto asks for JSON of a fixed form where the server offers it; off never does"
    )
    expected_score: bool = Field(
        False, description="scores are the mean over the log-probabilities of the reply, where the server gives them"
    )


class AnthropicSettings(EndpointSettings):
    """A model behind Anthropic's API."""

    kind: Literal["anthropic"]
    api_key_env: Annotated[KeyVariable, NotInKey, NeverQuoted] = Field(
        "ANTHROPIC_API_KEY", description="environment variable that holds the key"
    )
    temperature: Annotated[Number, Field(ge=0, le=1)] | None = Field(
        None, description="0 is the steadiest; null for models that accept none, as the newest do"
    )
    structured: Literal["auto", "off"] = Field(
        "auto", description="auto asks for JSON of a fixed form where the model offers it; off never does"
    )


class LocalSettings(PromptedSettings):
    """A model on this machine: a causal LM that is asked, or a reward model that scores."""

    kind: Literal["local"]
    model: ModelPath = Field(
        description="model folder or hub id: a causal LM, or a sequence classifier with one output"
    )
    tie_margin: NotNegative = Field(
        0.0, description="rewards that differ by no more than this are a tie; reward models only"
    )
    batch_size: Annotated[Count, NotInKey] = Field(8, description="texts worked on at once")


Member = Annotated[
    RubricSettings | OpenAISettings | AnthropicSettings | LocalSettings,
    Field(discriminator="kind"),
    BeforeValidator(read_judge),
]


class PanelSettings(Section):
    """Several judges that decide together."""

    kind: Literal["panel"]
    judges: Annotated[list[Member], Field(min_length=2)] = Field(description="the members; none is a panel")
    rule: Literal["majority", "mean"] = Field(
        "majority",
        description="majority: more than half of the members' verdicts, median of scores; mean: mean of both",
    )


JudgeSettings = Annotated[
    RubricSettings | OpenAISettings | AnthropicSettings | LocalSettings | PanelSettings,
    Field(discriminator="kind"),
    BeforeValidator(read_judge),
]


class _Judge(Section):
    judge: JudgeSettings


def judge_settings(judge: str | Mapping[str, Any] | Section, folder: Path, *, where: str = "judge") -> JudgeSettings:
    """A judge given outside of a config: as one line of text, as a mapping like that of the YAML, or as settings.

    Args:
        folder: the folder from which the file of a rubric is found.
        where: what to name in an error, such as the option.

    Raises:
        ConfigError: with every problem in one line.
    """
    data = expand_judges({"judge": dict(judge) if isinstance(judge, Mapping) else judge}, folder)
    try:
        return _Judge.model_validate(data, context={"folder": folder}).judge
    except ValidationError as error:
        raise ConfigError(explain(error, data, _Judge).removeprefix("judge: "), where=where) from error


class JudgeCheckSettings(Section):
    """Demands that a judge must meet on labelled comparisons before the project uses it."""

    labelled: FilePath = Field(
        description="file of comparisons that people have judged: LLMBar's, PandaLM's or your own"
    )
    rows: Count = Field(100, description="how many of its rows are asked, evenly spread")
    probe_rows: Count = Field(30, description="how many rows the length probe and each canary are asked with")
    min_accuracy: Fraction | None = Field(0.6, description="smallest share of its verdicts that agree with people")
    min_order_agreement: Fraction | None = Field(0.7, description="smallest share of pairs whose two orders agree")
    max_padded_wins: Fraction | None = Field(
        0.3, description="largest share of verdicts for an answer that only says itself twice, against itself"
    )
    max_own_family: Fraction | None = Field(
        0.1, description="largest excess, over people, of its preference for answers of its own model family"
    )
    max_canary_wins: Fraction | None = Field(
        0.05,
        description="largest share of questions in which a constant answer (empty words, flattery) does not lose",
    )
    max_missing: Fraction | None = Field(0.1, description="largest share of verdicts that are none")
