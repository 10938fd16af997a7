"""Messages about the YAML: keys as people wrote them, short quotations, and the nearest of the known names."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from fairlead.config.base import Section
from fairlead.config.loading.explain import explain
from fairlead.config.project import parse_config
from fairlead.errors import ConfigError
from tests.support.projects import tiny_config

OPENAI = {"kind": "openai", "model": "m"}
RUBRIC = {"kind": "rubric", "checks": [{"kind": "regex", "name": "x", "pattern": "y"}]}


def message(**sections: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config({**tiny_config(), **sections})
    return str(caught.value)


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"judge": {**OPENAI, "base_url": "h/v1"}}, "judge.base_url: must begin with http"),
        ({"judge": {"kind": "openai"}}, "judge.model: is missing"),
        ({"judge": {**OPENAI, "concurency": 1}}, "judge.concurency: unknown key, did you mean concurrency?"),
        ({"judge": {"kind": "opnai"}}, "judge.kind: unknown kind opnai, did you mean openai?"),
        ({"judge": {"model": "m"}}, "judge.kind: is missing, known: rubric, openai, anthropic, local, panel"),
        ({"judge": 5}, "judge: must be a mapping of keys to values (given: 5)"),
        ({"judge": {"kind": "panel", "judges": [RUBRIC, {"kind": "x"}]}}, "judge.judges.1.kind: unknown kind x"),
        ({"decide": {"models": [{"model": "x"}]}}, "decide.models.0.kind: is missing, known: local, openai, anthropic"),
        ({"lora": {"targets": 5}}, "lora.targets: input should be a valid list or all-linear (given: 5)"),
        ({"lora": {"targets": ["a", 5]}}, "lora.targets.1: input should be a valid string (given: 5)"),
        ({"data_check": {"waive": {"rowz": "few"}}}, "data_check.waive.rowz: unknown value 'rowz', did you mean rows?"),
        ({"data_check": {"purpose": "trail"}}, "data_check.purpose: unknown value 'trail', did you mean trial?"),
        ({"eval": {"metrics": [{"kind": "json_schema", "name": "a", "json_schema": 5}]}},
         "json_schema: must be a mapping of keys to values or input should be a valid string (given: 5)"),
        ({"eval": {"metrics": [{"kind": "json_schema", "name": "a", "json_schema": {1: 5}}]}},
         "eval.metrics.0.json_schema.1: a key must be text: put it in quotes"),
        ({"dpo": {1: 2}}, "dpo.1: a key must be text"),
        ({"sed": 3}, "sed: unknown key, did you mean seed?"),
        ({"seed": 10**5000}, "(given: a number of thousands of digits)"),
        ({"pairs": {"margin": 10**400}}, "pairs.margin: input should be a valid number (given: 1000"),
        ({"judge": None}, "judge is missing"),
    ],
)  # fmt: skip
def test_a_message_names_the_key_as_it_is_written(sections: dict[str, Any], expected: str) -> None:
    assert expected in message(**sections)


@pytest.mark.parametrize(
    "sections",
    [
        {"data_check": {"waive": {"amount": "few"}}},
        {"data_check": {"drop": ["amount"]}},
        {"dpo": {"zzz": 1}},
        {"judge": {**OPENAI, "zzz": 1}},
        {"zzz": 1},
        {"dpo": {"loss_type": ["zzz"]}},
    ],
)
def test_a_list_of_choices_stays_short(sections: dict[str, Any]) -> None:
    explained = message(**sections)
    assert "known: " in explained
    assert len(explained.partition("known: ")[2]) < 200


def test_the_most_similar_names_come_first_where_none_is_near() -> None:
    assert "known: truncated, " in message(data_check={"waive": {"amount": "few"}})


@pytest.mark.parametrize(
    "sections", [{"dpo": {"x" * 97_828: 1}}, {"dpo": {"beta": "y" * 97_828}}, {"judge": {"kind": "z" * 97_828}}]
)
def test_a_quotation_is_short(sections: dict[str, Any]) -> None:
    assert len(message(**sections)) < 400


def test_many_problems_are_counted_after_the_first_few() -> None:
    explained = message(**{f"dpo{n}": 1 for n in range(40)})
    assert explained.endswith("and 32 more problems")


@pytest.mark.parametrize(
    "judge",
    [
        {"base_url": "http://user:sk-SECRET@host/v1"},
        {"base_url": "http://host/v1?key=sk-SECRET"},
        {"base_url": "http://host/v1#sk-SECRET"},
        {"base_url": "http://sk-SECRET\u2100@host"},
        {"base_url": "http://[sk-SECRET"},
        {"base_url": "sk-SECRET"},
        {"base_url": ["sk-SECRET"]},
        {"api_key_env": "sk-SECRET"},
        {"api_key_env": "AIzaSySECRET"},
        {"api_key_env": {"a": "sk-SECRET"}},
        {"api_key": "sk-SECRET"},
    ],
)
@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_a_key_is_refused_and_never_quoted(judge: dict[str, Any], kind: str) -> None:
    for sections in ({"judge": {**OPENAI, "kind": kind, **judge}}, {"decide": {"models": [{**OPENAI, **judge}]}}):
        explained = message(**sections)
        assert next(iter(judge)) in explained
        assert "SECRET" not in explained


def test_a_renamed_key_is_refused_with_its_new_name() -> None:
    class Inner(Section):
        renamed: ClassVar[dict[str, str]] = {"purse": "budget"}
        budget: int = 1

    class Outer(Section):
        inner: Inner = Inner()

    data = {"inner": {"purse": 3}}
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(data)
    assert explain(caught.value, data, Outer) == "inner.purse: was renamed to budget"
