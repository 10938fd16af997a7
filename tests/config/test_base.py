"""What a section says of itself: the files it names, what it puts into a stage's key, and numbers that are none."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from fairlead.config.base import NamedPath, Section
from fairlead.config.data import DataCheckSettings
from fairlead.config.decide import DecideSection
from fairlead.config.judges import OpenAISettings
from fairlead.config.project import parse_config
from fairlead.config.training import DpoSection, LoraSection
from tests.support.projects import tiny_config

OPENAI = {"kind": "openai", "model": "m"}


def config_that_names_files() -> Any:
    return parse_config(
        {
            **tiny_config(),
            "model": {"name": "model", "chat_template": "chat.jinja"},
            "sample": {"models": ["a/hub-id", "other"], "constitution": "principles.yaml"},
            "judge": {
                "kind": "panel",
                "judges": [
                    {**OPENAI, "pairwise_template": "pair.jinja"},
                    {"kind": "rubric", "checks": [{"kind": "function", "name": "f", "function": "src/checks.py:f"}]},
                ],
            },
            "judge_check": {"labelled": "labelled.json"},
            "eval": {
                "metrics": [
                    {"kind": "json_schema", "name": "file", "json_schema": "schema.json"},
                    {"kind": "json_schema", "name": "inline", "json_schema": {"title": "not/a/file.json"}},
                    {"kind": "regex", "name": "r", "pattern": "prompts.jsonl"},
                ]
            },
        }
    )


def test_every_file_that_a_setting_names_is_listed_by_its_key_and_nothing_else() -> None:
    assert config_that_names_files().files() == {
        "model.name": "model",
        "model.chat_template": "chat.jinja",
        "data.sft": "sft.jsonl",
        "data.prompts": "prompts.jsonl",
        "data.eval": "eval.jsonl",
        "sample.models.0": "a/hub-id",
        "sample.models.1": "other",
        "sample.constitution": "principles.yaml",
        "judge.judges.0.pairwise_template": "pair.jinja",
        "judge.judges.1.checks.0.function": "src/checks.py",
        "judge_check.labelled": "labelled.json",
        "eval.metrics.0.json_schema": "schema.json",
    }


@pytest.mark.parametrize(
    ("at", "files"),
    [
        ("eval.metrics", {"eval.metrics.0.json_schema": "schema.json"}),
        ("eval.max_missing", {}),
        ("data.eval", {"data.eval": "eval.jsonl"}),
        ("eval_judge", {"eval_judge.judges.0.pairwise_template", "eval_judge.judges.1.checks.0.function"}),
    ],
)
def test_a_part_of_the_config_lists_its_own_files(at: str, files: Any) -> None:
    listed = config_that_names_files().files(at)
    assert listed == files if isinstance(files, dict) else set(listed) == files


def test_a_model_may_be_a_hub_id_and_a_file_may_not() -> None:
    paths = {path.key: path for path in config_that_names_files().named_paths()}
    assert paths["model.chat_template"] == NamedPath("model.chat_template", "chat.jinja", "file")
    assert paths["model.chat_template"].must_exist
    assert paths["judge.judges.1.checks.0.function"].must_exist
    assert not paths["sample.models.0"].must_exist


def test_budgets_addresses_and_patience_are_no_part_of_a_key() -> None:
    plain = OpenAISettings.model_validate(OPENAI)
    other = OpenAISettings.model_validate(
        {
            **OPENAI,
            "base_url": "http://localhost:1/v1",
            "api_key_env": None,
            "concurrency": 1,
            "timeout_s": 1,
            "max_retries": 0,
            "max_calls": 5,
            "max_cost": 1,
            "price_per_million_input_tokens": 1,
            "price_per_million_output_tokens": 1,
        }
    )
    assert plain.key_values() == other.key_values()
    assert plain.key_values()["model"] == "m"
    assert plain.key_values() != OpenAISettings.model_validate({**OPENAI, "criteria": "short"}).key_values()


def test_a_waiver_counts_and_its_words_do_not() -> None:
    def waived(**reasons: str) -> Any:
        return DataCheckSettings.model_validate({"waive": reasons}).key_values()

    assert waived(rows="few") == waived(rows="no others") != waived(length="few")
    decide = [DecideSection.model_validate({"waive": reason}) for reason in ("a", "b", None)]
    assert decide[0].key_values() == decide[1].key_values() != decide[2].key_values()


def test_a_section_without_marks_puts_all_of_itself_into_the_key() -> None:
    config = parse_config(tiny_config())
    assert config.dpo.key_values() == config.dpo.model_dump(mode="json")
    assert config.key_value("pairs.max_missing") == 0.1
    assert config.key_value("decide.waive") is True
    assert config.key_value("gate_criteria") == config.key_value("gate.criteria")


@pytest.mark.parametrize(
    ("section", "settings"),
    [
        (DpoSection, {"epochs": True}),
        (DpoSection, {"beta": True}),
        (DpoSection, {"batch_size": True}),
        (DpoSection, {"loss_type": ["sigmoid"], "loss_weights": [True]}),
        (LoraSection, {"alpha": False}),
        (OpenAISettings, {**OPENAI, "max_calls": True}),
    ],
)
def test_a_boolean_is_no_number(section: type[Section], settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="must be a number, not true or false"):
        section.model_validate(settings)


def test_booleans_stay_booleans() -> None:
    assert DpoSection.model_validate({"gradient_checkpointing": True}).gradient_checkpointing is True


def test_every_number_of_the_config_refuses_booleans() -> None:
    numeric = [
        (f"{section.__name__}.{name}", adapter)
        for section in sections()
        for name, field in section.model_fields.items()
        if bool not in (field.annotation, *get_args(field.annotation))
        and accepts(adapter := TypeAdapter(field.rebuild_annotation()), 0.2, 0, 1, 20, 200, [0.2], [20])
    ]
    assert len(numeric) > 80
    assert [name for name, adapter in numeric if accepts(adapter, True, [True])] == []


def sections() -> list[type[Section]]:
    """All sections of the config, those with base classes of their own too."""
    all_sections, todo = set[type[Section]](), [Section]
    while todo:
        classes = todo.pop().__subclasses__()
        all_sections.update(classes)
        todo.extend(classes)
    return sorted((section for section in all_sections if section.__module__.startswith("fairlead.")), key=repr)


def accepts(adapter: TypeAdapter[Any], *values: object) -> bool:
    for value in values:
        with suppress(ValidationError):
            adapter.validate_python(value)
            return True
    return False
