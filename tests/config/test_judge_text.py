"""A judge as one line of text stands for the settings that it would be written out as."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from fairlead.config.judges import judge_settings
from fairlead.config.project import load_config, parse_config
from fairlead.errors import ConfigError

BASE: dict[str, Any] = {"model": {"name": "m"}, "data": {"sft": "s", "prompts": "p", "eval": "e"}}
CHECK = {"kind": "length", "name": "short", "max_words": 30}


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("openai:gpt-4.1", {"kind": "openai", "model": "gpt-4.1"}),
        ("openai:a/b:free@https://host/v1", {"kind": "openai", "model": "a/b:free", "base_url": "https://host/v1"}),
        (
            "openai:m@http://localhost:8000/v1",  # a server on this machine is not sent OpenAI's key
            {"kind": "openai", "model": "m", "base_url": "http://localhost:8000/v1", "api_key_env": None},
        ),
        ("anthropic:claude-x", {"kind": "anthropic", "model": "claude-x"}),
        ("local:org/model", {"kind": "local", "model": "org/model"}),
        (" local: models/mine ", {"kind": "local", "model": "models/mine"}),
    ],
)
def test_a_text_is_its_settings(text: str, settings: dict[str, Any]) -> None:
    assert judge_settings(text, Path()) == judge_settings(settings, Path())
    assert parse_config({**BASE, "judge": text}) == parse_config({**BASE, "judge": settings})


@pytest.mark.parametrize("content", [[CHECK], {"checks": [CHECK]}, {"kind": "rubric", "checks": [CHECK]}])
def test_the_file_of_a_rubric_lies_in_the_project_and_its_checks_become_settings(tmp_path: Path, content: Any) -> None:
    (tmp_path / "checks.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    rows = {**BASE, "judge": "rubric:checks.yaml", "eval": {"judge": "openai:m"}}
    (tmp_path / "fairlead.yaml").write_text(yaml.safe_dump(rows), encoding="utf-8")
    config = load_config(tmp_path)
    assert config.judge == judge_settings({"kind": "rubric", "checks": [CHECK]}, tmp_path)
    assert config.eval_judge == judge_settings("openai:m", tmp_path)


def test_members_of_a_panel_may_be_texts() -> None:
    panel = judge_settings({"kind": "panel", "judges": ["openai:a", {"kind": "local", "model": "b"}]}, Path())
    assert panel.kind == "panel"
    assert [member.kind for member in panel.judges] == ["openai", "local"]


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        ("gpt-4.1", "judge: is no judge: write openai:MODEL, openai:MODEL@http://HOST/v1, anthropic:MODEL, local:"),
        ("opnai:gpt-4.1", "judge: is no judge, did you mean openai:…? write openai:MODEL, "),
        ("openai:", "judge: names nothing after the colon: write openai:MODEL"),
        ("openai:@http://host/v1", "judge: names no model before @"),
        ("openai:m@localhost:8000", "judge: the address after @ must begin with http:// or https://"),
        ("rubric:none.yaml", "judge: the file of its checks cannot be used: none.yaml: no such file"),
        ({"kind": "panel", "judges": ["openai:a", "b"]}, "judge.judges.1: is no judge: write openai:MODEL"),
        (3, "judge: must be a mapping"),
    ],
)
def test_what_is_no_judge_is_told_the_forms(judge: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config({**BASE, "judge": judge})
    assert message in str(error.value)


def test_a_wrong_key_in_the_file_of_a_rubric_is_named(tmp_path: Path) -> None:
    (tmp_path / "checks.yaml").write_text(yaml.safe_dump([{**CHECK, "max_wordz": 3}]), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"^--judge: judge\.checks\.0\.max_wordz: unknown key"):
        judge_settings("rubric:checks.yaml", tmp_path, where="--judge")
    (tmp_path / "checks.yaml").write_text("severity: high", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"checks\.yaml holds no checks"):
        judge_settings("rubric:checks.yaml", tmp_path)


@pytest.mark.parametrize("text", ["openai:m@http://user:sk-secret99@host/v1", "openai:m@sk-secret99", "sk-secret99"])
def test_a_key_that_was_pasted_into_the_text_is_never_quoted(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config({**BASE, "judge": text})
    assert "secret" not in str(error.value)
