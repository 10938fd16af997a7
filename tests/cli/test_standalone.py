"""`fairlead judge score`, `eval model` and `data pairs` as a person types them, without a project."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fairlead.cli.main import app
from fairlead.errors import ConfigError
from fairlead.files import read_jsonl
from tests.support.commands import fairlead
from tests.support.misbehaving import JudgeServer

runner = CliRunner()


def output(*arguments: str) -> str:
    result = runner.invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_person_scores_a_file_without_a_project(judge: str, server: JudgeServer, tmp_path: Path) -> None:
    rows = [{"question": f"q{n}", "response": f"quality={n}", "contexts": ["c"]} for n in (4, 8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    file, out, folder = str(tmp_path / "rows.jsonl"), str(tmp_path / "scored.jsonl"), str(tmp_path)
    asked = ("judge", "score", file, "--judge", judge, "--criterion", "faithfulness", "--out", out, "-C", folder)
    first = fairlead(*asked)
    assert first.returncode == 0, first.stderr
    assert "faithfulness  6.00" in first.stdout
    assert f"wrote {out}" in first.stdout
    assert [row["scores"]["faithfulness"] for _, row in read_jsonl(Path(out))] == [4.0, 8.0]
    without = fairlead("judge", "score", file, "-C", folder)
    assert without.returncode == 3
    assert without.stderr == (
        "fairlead: judge score: no judge is named, and there is no project here — name one: --judge openai:MODEL\n"
    )
    assert server.stats.paid == 2


def test_a_model_is_evaluated_and_pairs_are_built(judge: str, tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "one"}\n{"prompt": "two"}\n', encoding="utf-8")
    (tmp_path / "checks.yaml").write_text("- {kind: length, name: short, max_chars: 12}\n", encoding="utf-8")
    common = ("-C", str(tmp_path), "--max-new-tokens", "4", "--json")
    prompts = str(tmp_path / "prompts.jsonl")
    figures = json.loads(output("eval", "model", str(tiny_model), prompts, "--judge", judge, *common))
    assert figures["criteria"]["judge_score"]["n"] == 2
    out = str(tmp_path / "pairs.jsonl")
    of_pairs = ("--model", str(tiny_model), "--judge", "rubric:checks.yaml", "--out", out)
    summary = json.loads(output("data", "pairs", prompts, *of_pairs, *common))
    assert sum(summary["verdicts"].values()) == 2
    assert Path(out).read_text(encoding="utf-8").count("\n") == summary["pairs"]


def test_agreement_and_check_take_a_judge_without_a_project(judge: str, tmp_path: Path) -> None:
    rows = [{"prompt": f"q{n}", "first": "quality=8 x", "second": "quality=2 y", "human": "first"} for n in range(4)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    file = str(tmp_path / "rows.jsonl")
    figures = json.loads(output("judge", "agreement", file, "--judge", judge, "-C", str(tmp_path), "--json"))
    assert figures["accuracy"]["value"] == 1.0
    checked = runner.invoke(app, ["judge", "check", file, "--judge", judge, "-C", str(tmp_path), "--json"])
    assert checked.exit_code in (0, 5)
    assert json.loads(checked.stdout)["agreement"]["accuracy"]["value"] == 1.0
    with pytest.raises(ConfigError, match=r"^--judge: is no judge: write openai:MODEL"):
        output("judge", "agreement", file, "--judge", "gpt-4.1")
