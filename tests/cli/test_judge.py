"""`fairlead judge …` as a person types it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from fairlead.cli.judges.commands import app
from fairlead.errors import ConfigError, DataError
from tests.support.judging import pairwise
from tests.support.misbehaving import JudgeServer

runner = CliRunner()


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with JudgeServer(brain=pairwise(lambda a, b: ("right" in a) - ("right" in b))) as opened:
        yield opened


@pytest.fixture
def project(tmp_path: Path, server: JudgeServer) -> Path:
    judge = {
        "kind": "openai", "model": "gpt-9", "base_url": server.base_url, "api_key_env": None,
        "price_per_million_input_tokens": 1, "price_per_million_output_tokens": 1,
    }  # fmt: skip
    config = {"model": {"name": "m"}, "data": {"sft": "s", "prompts": "p", "eval": "e"}, "judge": judge}
    (tmp_path / "fairlead.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    rows = [{"prompt": f"q{n}", "first": f"right {n}", "second": f"wrong {n}", "human": "first"} for n in range(6)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return tmp_path


def fairlead_output(*arguments: str) -> str:
    result = runner.invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_agreement_prints_the_published_figures(shared_data: Path) -> None:
    text = fairlead_output("agreement", str(shared_data / "pandalm_human.jsonl"), "--verdicts", "gpt35")
    assert "0.7107" in text
    assert "0.7156" in text, "the figure without the 25 unreadable ones stands beside it"
    assert "25 unreadable" in text
    figures = json.loads(
        fairlead_output("agreement", str(shared_data / "llmbar_gpt4.jsonl"), "--verdicts", "gpt4", "--json")
    )
    assert (figures["accuracy"]["n"], round(figures["accuracy"]["value"], 3)) == (838, 0.845)
    assert round(figures["order_agreement"]["value"], 3) == 0.928


@pytest.mark.parametrize("option", [["--rows", "4"], ["--estimate"], ["--eval"]])
def test_what_is_about_the_projects_judge_is_refused_beside_stored_verdicts(option: list[str]) -> None:
    with pytest.raises(ConfigError, match="not asked beside --verdicts"):
        fairlead_output("agreement", "rows.jsonl", "--verdicts", "gpt35", *option)


def test_agreement_of_the_projects_judge(project: Path, server: JudgeServer) -> None:
    arguments = ("agreement", str(project / "rows.jsonl"), "-C", str(project), "--json")
    figures = json.loads(fairlead_output(*arguments, "--rows", "4"))
    assert (figures["rows"], figures["accuracy"]["value"]) == (4, 1.0)
    assert server.stats.paid == 8
    assert json.loads(fairlead_output(*arguments))["rows"] == 6
    assert server.stats.paid == 12


def test_an_estimate_asks_nothing_and_is_what_is_asked(project: Path, server: JudgeServer) -> None:
    file = str(project / "rows.jsonl")
    [estimate] = json.loads(fairlead_output("check", file, "-C", str(project), "--estimate", "--json"))
    assert server.stats.requests == 0
    assert estimate["most_cost"] > estimate["cost"] * 0.99 > 0
    assert "calls" in fairlead_output("agreement", file, "-C", str(project), "--estimate")
    qualification = json.loads(fairlead_output("check", file, "-C", str(project), "--json"))
    assert server.stats.paid == estimate["calls"]
    assert qualification["passed"]
    text = fairlead_output("check", file, "-C", str(project))
    assert "not measured: the family probe measured nothing" in text
    assert "0 inconsistent" in text
    assert qualification["shared_lineage"].startswith(
        "the judge of the pairs and the judge of the comparison are the same model (gpt-9)"
    )


def test_a_judge_that_fails_the_check_gives_an_exit_status_of_its_own(project: Path, server: JudgeServer) -> None:
    server.brain = pairwise(lambda a, b: 1)
    result = runner.invoke(app, ["check", str(project / "rows.jsonl"), "-C", str(project)])
    assert result.exit_code == 5
    assert "qualified: no" in result.output


def test_the_ledger_shows_what_was_asked(project: Path, server: JudgeServer) -> None:
    fairlead_output("agreement", str(project / "rows.jsonl"), "-C", str(project), "--rows", "1")
    [totals] = json.loads(fairlead_output("ledger", str(project), "--json"))
    assert (totals["model"], totals["replies"], totals["read"]) == ("gpt-9", 2, 2)
    assert "gpt-9" in fairlead_output("ledger", str(project))
    replies = json.loads(fairlead_output("ledger", str(project), "--find", "", "--json"))
    assert {reply["verdict"] for reply in replies} == {"A", "B"}
    key = replies[0]["key"]
    assert '"verdict"' in fairlead_output("ledger", str(project), "--find", key[:10])


def test_a_check_without_a_file_says_where_to_name_one(project: Path) -> None:
    with pytest.raises(ConfigError, match=r"judge_check: no labelled comparisons"):
        fairlead_output("check", "-C", str(project))


def test_a_missing_file_is_named(project: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        fairlead_output("agreement", str(project / "none.jsonl"), "--verdicts", "x")
