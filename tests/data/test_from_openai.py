"""The page on moving from OpenAI's fine-tuning: every command of it, on files of OpenAI's forms."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from fairlead.cli.main import app
from fairlead.config.project import Config
from fairlead.files import read_jsonl, write_jsonl
from tests.support.projects import REPO

PAGE = (REPO / "docs" / "from-openai.md").read_text(encoding="utf-8")
SUBJECTS = ["disk", "cache", "queue", "router", "socket", "parser", "kernel", "mailer", "broker", "ledger"]


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str | None, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def openai_files(folder: Path) -> None:
    """An SFT file with weights and a tool call, and a preference file."""
    system = {"role": "system", "content": "You triage incidents."}
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    rows: list[dict[str, Any]] = [
        {"messages": [system, user(f"The {subject} is full, {n}."), assistant(f"Empty the {subject}.")]}
        for n, subject in enumerate(SUBJECTS * 3)
    ]
    rows += [
        {
            "messages": [
                user("Hello?"),
                assistant("Hi.", weight=0),
                user("Who are you?"),
                assistant("Support.", weight=1),
            ]
        },
        {
            "messages": [
                user("How is it?"),
                assistant(None, tool_calls=[call]),
                {"role": "tool", "tool_call_id": "c1", "content": "{}"},
                assistant("Fine."),
            ],
            "tools": tools,
            "parallel_tool_calls": False,
        },
    ]
    write_jsonl(folder / "openai-sft.jsonl", rows)
    answers = ("Reboot it now, please.", "No idea.")
    write_jsonl(
        folder / "openai-preferences.jsonl",
        [
            {
                "input": {"messages": [user(f"My {subject} broke, {n}.")], "tools": [], "parallel_tool_calls": True},
                "preferred_output": [assistant(f"{answers[n % 2]} {n}")],
                "non_preferred_output": [assistant(f"{answers[1 - n % 2]} {n}")],
            }
            for n, subject in enumerate(SUBJECTS * 2)
        ],
    )


def test_every_command_of_the_page_does_what_it_says(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "project"
    shutil.copytree(finished, folder)
    monkeypatch.chdir(folder)
    openai_files(folder)
    asked = [row["prompt"] for _, row in read_jsonl(folder / "eval.jsonl")]
    answers = [{"prompt": prompt, "answer": "severity: high", "model": "tuned-api"} for prompt in asked]
    write_jsonl(folder / "api-answers.jsonl", answers)
    commands = re.findall(
        r"^    (fairlead .+)$|`(fairlead data export [^`]+?)`", PAGE.replace("\n", "\n"), re.MULTILINE
    )
    outputs: dict[str, str] = {}
    for line in [indented or inline for indented, inline in commands]:
        result = CliRunner().invoke(app, shlex.split(line)[1:])
        assert result.exit_code == 0, (line, result.output, result.exception)
        outputs[line.split(" --")[0]] = result.output
    assert len(outputs) == len(commands) == 8
    imported = outputs["fairlead data import openai-sft.jsonl"]
    assert "31 SFT rows" in imported
    assert "dropped 1: weight 0: not to be trained on" in imported
    assert "dropped 1: a turn holds tool calls and no text" in imported
    assert "not read: tool_calls of messages in 1 rows" in imported
    assert "data/split/train.jsonl, dev: data/split/dev.jsonl" in outputs["fairlead data split data/examples.jsonl"]
    exported = json.loads((folder / "pairs.jsonl").read_text().splitlines()[0])
    assert exported == json.loads((folder / "openai-preferences.jsonl").read_text().splitlines()[0])
    assert (folder / "imported" / "comparison.json").is_file()


def test_the_config_of_the_page_is_valid() -> None:
    (block,) = re.findall(r"```yaml\n(.+?)```", PAGE, re.DOTALL)
    config = Config.model_validate(yaml.safe_load(block))
    assert [model.name for model in config.decide.models] == ["tuned-api"]
