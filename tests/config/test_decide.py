"""The section's keys: what cannot work is refused, and every name in the table is one model's."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from fairlead.config.decide import DecideSection
from fairlead.config.values.asked_models import EndpointModel

LOCAL = {"kind": "local", "model": "m"}
DOCUMENTS = {"documents": "d"}


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"waive": "  "}, "give the reason in words"),
        ({"instructions": ["a", "a"]}, "two of them are the same"),
        ({"instructions": [" "]}, "one of them is empty"),
        ({"models": [LOCAL, LOCAL]}, "models has two named m"),
        ({"models": [{**LOCAL, "name": "base"}]}, "models has two named base"),
        ({"retrieval": {**DOCUMENTS, "search": ["both"]}}, "needs decide.embedding"),
        ({"embedding": {"model": "m"}, "few_shot": None}, "embedding is read by nothing"),
        ({"embedding": {"model": "m"}, "few_shot": {"selection": ["fixed"]}}, "embedding is read by nothing"),
        ({"retrieval": {**DOCUMENTS, "chunk_words": 20, "overlap_words": 20}}, "must be less than chunk_words"),
        ({"few_shot": {"ks": []}}, "at least 1"),
        ({"models": [{"kind": "anthropic", "model": "m", "temperature": 0.0}]}, "for kind openai only"),
        ({"models": [{"kind": "openai", "model": "m", "max_cost": 1.0}]}, "max_cost needs both prices"),
        ({"models": [{"kind": "openai", "model": "m", "price_per_million_input_tokens": 1.0}]}, "give both"),
        ({"models": [{"kind": "openai", "model": "m", "base_url": "http://a:b@c/v1"}]}, "must hold no key"),
        ({"models": [{"kind": "openai", "model": "m", "base_url": "c/v1"}]}, "must begin with http"),
        ({"wave": "typo"}, "Extra inputs"),
    ],
)
def test_what_cannot_work_is_refused(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DecideSection.model_validate(section)


@pytest.mark.parametrize(
    ("model", "variable"),
    [
        ({"kind": "openai"}, "OPENAI_API_KEY"),
        ({"kind": "openai", "base_url": "http://localhost:1/v1"}, None),
        ({"kind": "anthropic"}, "ANTHROPIC_API_KEY"),
        ({"kind": "openai", "base_url": "http://localhost:1/v1", "api_key_env": "MINE"}, "MINE"),
    ],
)
def test_the_key_is_the_providers_unless_another_is_named(model: dict[str, Any], variable: str | None) -> None:
    assert EndpointModel.model_validate({"model": "m", **model}).key_variable == variable
