"""The command line as a whole: every outcome has a status of its own, and every command that is named exists."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from fairlead.cli.main import app
from tests.support.commands import fairlead
from tests.support.projects import REPO, write_config


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gate", "--forse"], "fairlead gate: No such option: --forse"),
        (["gaet"], "fairlead: No such command 'gaet'"),
        (["try"], "fairlead try: Missing argument 'PROMPT'"),
        (["data", "show", "x", "--from", "0"], "fairlead data show: Invalid value for '--from'"),
        (["demo", "--seed", "4294967296"], "fairlead demo: Invalid value for '--seed'"),
    ],
)
def test_a_usage_error_is_one_line_and_no_status_of_the_gate(arguments: list[str], message: str) -> None:
    result = fairlead(*arguments)
    assert result.returncode == 64
    (line,) = result.stderr.splitlines()
    assert line.startswith(message)
    assert line.endswith("--help")


@pytest.mark.parametrize("group", ["", "data", "judge"])
def test_a_group_without_a_command_shows_its_help(group: str) -> None:
    result = fairlead(*group.split())
    assert result.returncode == 64
    assert "Usage" in result.stdout + result.stderr


def test_an_error_with_a_remedy_has_its_own_status(tmp_path: Path) -> None:
    assert fairlead("gate", str(tmp_path)).returncode == 3


def test_a_finished_project_says_so_in_one_line(project: Any) -> None:
    result = fairlead("run", str(project.folder))
    assert (result.returncode, result.stderr) == (0, "")
    (line,) = result.stdout.splitlines()
    assert line.startswith(f"nothing to do: all {len(project.stages)} stages are up to date")
    assert fairlead(*shlex.split(line.partition("; ")[2])[1:3]).returncode == 0, "the command that it names works"


@pytest.mark.parametrize("command", ["gate", "report", "eval"])
def test_a_result_can_be_read_without_running_anything(project: Any, command: str) -> None:
    folder = str(project.folder)
    arguments = [command, "--no-run", *(["-C"] if command == "eval" else []), folder]
    assert fairlead(*arguments).returncode == 0
    config = project.folder / "fairlead.yaml"
    config.write_text(config.read_text(encoding="utf-8") + "seed: 1\n", encoding="utf-8")
    before = sorted(path.name for path in (project.folder / "artifacts").rglob("*"))
    result = fairlead(*arguments)
    assert result.returncode == 3
    assert "has not run for the present config and data" in result.stderr
    assert sorted(path.name for path in (project.folder / "artifacts").rglob("*")) == before, "nothing was run"


def test_the_gate_judges_evidence_whose_weights_are_elsewhere(project: Any, tmp_path: Path) -> None:
    """As in a repository, which holds the evidence and no weights; changed criteria are judged there as well."""
    shutil.rmtree(project.folder / "model")
    shutil.rmtree(project.folder / ".fairlead")
    for weights in project.folder.rglob("*.safetensors"):
        weights.unlink()
    command = ["gate", "--no-run", str(project.folder), "--markdown", str(tmp_path / "gate.md")]
    assert fairlead(*command).returncode == 0
    assert "leaks" in (tmp_path / "gate.md").read_text(encoding="utf-8")
    config = yaml.safe_load((project.folder / "fairlead.yaml").read_text(encoding="utf-8"))
    write_config(project.folder, {**config, "gate": {"criteria": [{"figure": "leaks", "above": 1000}]}})
    assert fairlead(*command).returncode == 1, "the demand was raised"
    (answers,) = (project.folder / "artifacts" / "answers").rglob("answers.jsonl")
    answers.write_text(answers.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    result = fairlead(*command)
    assert result.returncode == 3
    assert "answers.jsonl has changed" in result.stderr
    assert fairlead("gate", str(project.folder)).returncode == 3, "without --no-run the base is needed"


@pytest.mark.parametrize("end", ["import sys\n    sys.exit(0)", "raise SystemExit", "raise KeyboardInterrupt"])
def test_a_users_file_cannot_pass_the_gate(project: Any, end: str) -> None:
    (project.folder / "checks.py").write_text(f"def short(answer, gold):\n    {end}\n", encoding="utf-8")
    result = fairlead("gate", str(project.folder))
    assert result.returncode in (3, 130)
    assert result.stderr.strip().splitlines()[-1].startswith("fairlead: ")


@pytest.mark.parametrize("body", ["import sys; sys.exit(0)", "import sys; sys.exit('bye')", "1 / 0"])
def test_only_a_command_that_came_to_its_end_exits_0_to_2(body: str) -> None:
    code = f"from fairlead.cli import main\n@main.app.command()\ndef ends():\n    {body}\nmain.main()"
    result = subprocess.run([sys.executable, "-c", code, "ends"], capture_output=True, text=True, check=False)
    assert result.returncode == 70
    assert result.stderr.strip().splitlines()[-1].startswith("fairlead: ")


def test_a_reader_that_goes_away_is_no_status_of_the_gate(finished: Path) -> None:
    code = "import os, sys; os.dup2(os.open('/dev/full', os.O_WRONLY), 1)"
    pipe = f"{code}\nfrom fairlead.cli.main import main\nsys.argv = ['fairlead', 'status', {str(finished)!r}]\nmain()"
    assert subprocess.run([sys.executable, "-c", pipe], capture_output=True, check=False).returncode not in (0, 1, 2)


@pytest.mark.parametrize("option", ["--junit", "--markdown"])
@pytest.mark.parametrize("place", ["checks.py/gate.out", "model", "x" * 300])
def test_an_impossible_place_for_the_gates_files_is_one_line(project: Any, option: str, place: str) -> None:
    result = fairlead("gate", str(project.folder), option, str(project.folder / place))
    assert result.returncode == 3
    assert "cannot write" in result.stderr or "is a folder and is not replaced" in result.stderr
    assert "Traceback" not in result.stderr


COMMAND = re.compile(r"(?:[a-z{]|--)[^`\"'|#;]*")
NO_COMMANDS = {"judge fence 1"}  # a salt
PROSE = {
    "is",
    "has",
    "and",
    "or",
    "as",
    "shows",
    "in",
    "on",
    "does",
    "goes",
    "writes",
    "makes",
    "from",
    "import",
    "replies",
}


@cache
def commands() -> dict[str, tuple[set[str], bool]]:
    """Every command with its options, and whether it has subcommands."""
    options_of: dict[str, tuple[set[str], bool]] = {}

    def walk(command: Any, name: str) -> None:
        options = {option for parameter in command.params for option in getattr(parameter, "opts", [])}
        subcommands = getattr(command, "commands", {})
        options_of[name] = ({"--help", *options}, bool(subcommands))
        for inner, part in subcommands.items():
            walk(part, f"{name} {inner}".strip())

    walk(typer.main.get_command(app), "")
    return options_of


def texts() -> list[tuple[str, str]]:
    """Every mention of a command in the messages of the code and in the documents, with its place."""
    places = [REPO / "README.md", *(REPO / "docs").glob("*.md"), *(REPO / "src").rglob("*.py")]
    return [
        (f"{path.relative_to(REPO)}:{number}", match[0])
        for path in places
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for part in re.split(r"\bfairlead ", line)[1:]
        if (match := COMMAND.match(part)) and match[0].split()[0] not in PROSE and match[0] not in NO_COMMANDS
    ]


def wrong(mention: str) -> str | None:
    """What does not exist of a mentioned command line; None if all of it does."""
    known = commands()
    words = re.sub(r"\{[^}]*\}|<[^>]*>", "VALUE", mention).replace("(", " ").replace(")", " ").split()
    name = ""
    while words and f"{name} {words[0].rstrip('.,:')}".strip() in known:
        name = f"{name} {words.pop(0).rstrip('.,:')}".strip()
    following = words[0].rstrip(".,:") if words else ""
    if not name or (name != "eval" and known[name][1] and following.isalpha() and following.islower()):
        return f"no command {name} {following}"
    options = [word.strip("[],.:").split("=")[0] for word in words if word.lstrip("[").startswith("--")]
    unknown = [option for option in options if option not in known[name][0]]
    return f"{name} has no {unknown[0]}" if unknown else None


def test_every_command_that_is_named_exists_with_its_options() -> None:
    mentions = texts()
    assert len(mentions) > 100
    assert [(place, mention, problem) for place, mention in mentions if (problem := wrong(mention))] == []


@pytest.mark.parametrize("mention", ["run --forse", "gaet my-project", "data chekc FILE", "prepare --force"])
def test_a_command_that_does_not_exist_would_be_found(mention: str) -> None:
    assert wrong(mention) is not None


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_explains_itself(name: str) -> None:
    result = CliRunner().invoke(app, [*shlex.split(name), "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output
    command: Any = typer.main.get_command(app)
    for part in name.split():
        command = command.commands[part]
    for parameter in command.params:
        is_project = parameter.name == "folder" and name != "verify"
        assert (parameter.metavar == "PROJECT") == (is_project or (name == "demo" and parameter.name == "to"))
        # Typer reads help as Rich's markup, in which brackets are styles and would not be shown.
        assert "[" not in (parameter.help or "")


def test_the_help_lists_every_command_in_the_order_of_the_work() -> None:
    root: Any = typer.main.get_command(app)
    names = root.list_commands(None)
    assert sorted(names) == sorted(root.commands)
    panels = [root.commands[name].rich_help_panel for name in names]
    assert None not in panels
    assert [panel for panel, _ in groupby(panels)] == list(dict.fromkeys(panels)), "each group stands in one piece"


def test_the_version_is_that_of_the_package() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"fairlead {version('fairlead')}\n"


def test_a_shell_can_complete_commands() -> None:
    request = {"_FAIRLEAD_COMPLETE": "complete_bash", "COMP_WORDS": "fairlead swe", "COMP_CWORD": "1"}
    result = fairlead(env={**os.environ, **request})
    assert (result.returncode, result.stdout.split()) == (0, ["sweep"])


def test_ctrl_c_prints_one_line() -> None:
    code = "from fairlead.cli import main\n@main.app.command()\ndef waits():\n    raise KeyboardInterrupt\nmain.main()"
    result = subprocess.run([sys.executable, "-c", code, "waits"], capture_output=True, text=True, check=False)
    assert result.returncode == 130
    (line,) = result.stderr.splitlines()
    assert line.startswith("fairlead: stopped")
