"""What `fairlead init` writes is valid, says what is missing, and never replaces a file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from fairlead.config.judges import JudgeSettings
from fairlead.config.project import Config, load_config, parse_config
from fairlead.errors import ConfigError
from fairlead.starters.write import EXAMPLES, short_template, write_example, write_full, write_short


def judge_blocks(text: str) -> list[str]:
    """The judges that stand in comments, uncommented."""
    comments = re.search(r"# In place of that judge, one of these:\n((?:#.*\n)+)", text)
    assert comments is not None
    lines = [line.removeprefix("# ").removeprefix("#") for line in comments[1].splitlines()]
    return [f"judge:{block}" for block in "\n".join(lines).split("judge:")[1:]]


def active_judge(text: str) -> str:
    match = re.search(r"^judge:\n(?:  .*\n)+", text, re.MULTILINE)
    assert match is not None
    return match[0]


def test_the_short_config_is_valid_and_has_one_line_for_each_of_about_thirty_keys(tmp_path: Path) -> None:
    [path] = write_short(tmp_path / "my 'own' project")
    config = load_config(path.parent)
    assert config.name == "my 'own' project"
    keys = [line for line in path.read_text(encoding="utf-8").splitlines() if re.match(r"(  )?[a-z_]+: *\S", line)]
    assert 25 <= len(keys) <= 45


def test_what_the_short_config_sets_is_the_default_of_the_key(tmp_path: Path) -> None:
    text = short_template(tmp_path)
    needed = {key: yaml.safe_load(text)[key] for key in ("name", "model", "data", "judge")}
    assert parse_config(yaml.safe_load(text)) == parse_config(needed)


def test_every_judge_in_a_comment_is_valid_when_it_takes_the_place_of_the_first() -> None:
    text = short_template(Path("my-project"))
    kinds = set()
    for block in judge_blocks(text):
        config = parse_config(yaml.safe_load(text.replace(active_judge(text), block)))
        assert config.judge is not None
        kinds.add(config.judge.kind)
    union, *_ = get_args(JudgeSettings)
    assert kinds == {kind for member in get_args(union) for kind in get_args(member.model_fields["kind"].annotation)}


def test_the_keys_in_comments_are_known() -> None:
    text = short_template(Path("my-project"))
    for old, new in (
        ("  prompts: ", "  # prompts: "),
        ("  # preferences: ", "  preferences: "),
        ("  # dev: ", "  dev: "),
    ):
        assert old in text
        text = text.replace(old, new)
    text = text.replace("  # waive: ", "  waive: ").replace("  targets: null\n", "")
    config = parse_config(yaml.safe_load(text))
    assert (config.data.preferences, config.data.dev) == ("data/pairs.jsonl", "data/dev.jsonl")
    [targets] = re.findall(r"# (targets: \[.*\])", text)
    assert len(parse_config({**yaml.safe_load(text), "decide": yaml.safe_load(targets)}).decide.targets or ()) == 2


@pytest.mark.parametrize("write", [write_short, write_full])
def test_no_target_and_no_metric_stands_in_a_new_config(tmp_path: Path, write: Any) -> None:
    write(tmp_path)
    config = load_config(tmp_path)
    assert config.decide.targets is None
    assert config.eval.metrics == []
    assert config.gate.criteria is None


def test_the_full_config_holds_every_section(tmp_path: Path) -> None:
    [path] = write_full(tmp_path)
    assert set(yaml.safe_load(path.read_text(encoding="utf-8"))) == set(Config.model_fields)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_has_ten_rows_in_every_file(tmp_path: Path, name: str) -> None:
    paths = write_example(tmp_path, name)
    config = load_config(tmp_path)
    rows = {path.name: path.read_text(encoding="utf-8").count("\n") for path in paths if path.suffix == ".jsonl"}
    assert set(rows.values()) == {10}
    assert config.name == f"{name} example"
    named = {path.text for path in config.data.named_paths()}
    assert named == {f"data/{file}" for file in rows}


def test_nothing_that_is_there_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "eval.jsonl").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"eval\.jsonl: is there already"):
        write_example(tmp_path, "chat")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    write_short(tmp_path)
    for write in (write_short, write_full):
        with pytest.raises(ConfigError, match=r"fairlead\.yaml: is there already"):
            write(tmp_path)


def test_an_unknown_example_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean triage"):
        write_example(tmp_path, "triag")
