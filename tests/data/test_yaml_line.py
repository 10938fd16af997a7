"""The line for fairlead.yaml names files as a project reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from fairlead.data.yaml_line import data_line


def test_a_file_of_a_project_is_named_relative_to_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my" / "data").mkdir(parents=True)
    (tmp_path / "my" / "fairlead.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert data_line({"sft": Path("my/data/sft.jsonl")}) == "data: {sft: data/sft.jsonl}"
    monkeypatch.chdir(tmp_path / "my" / "data")
    assert data_line({"sft": Path("sft.jsonl")}) == "data: {sft: data/sft.jsonl}"


def test_a_file_outside_of_any_project_keeps_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = {"prompts": Path("split/train.jsonl"), "eval": Path("split/eval.jsonl")}
    assert data_line(files) == "data: {prompts: split/train.jsonl, eval: split/eval.jsonl}"


def test_names_that_yaml_would_read_as_something_else_are_quoted(tmp_path: Path) -> None:
    file = tmp_path / "pairs, old: {1}.jsonl"
    assert yaml.safe_load(data_line({"preferences": file})) == {"data": {"preferences": str(file)}}
