"""`fairlead review` from the first question to a gate on the corrected win rate."""

from __future__ import annotations

import json

import pytest
import yaml
from typer.testing import CliRunner

from fairlead import Project
from fairlead.cli.main import app
from fairlead.errors import ConfigError
from fairlead.evaluation.human.labels import read_labels
from tests.support.projects import write_config


@pytest.fixture
def compared(project: Project) -> Project:
    """The finished project with 30 eval prompts and an SFT model that answers otherwise than the base."""
    rows = [json.dumps({"prompt": f"eval report number {n} of the disk"}) for n in range(30)]
    (project.folder / "eval.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    config = yaml.safe_load((project.folder / "fairlead.yaml").read_text(encoding="utf-8"))
    config["sft"]["learning_rate"] = 0.02
    write_config(project.folder, config)
    made = Project(project.folder)
    made.run("eval")
    return made


def review(project: Project, keys: str, *options: str) -> str:
    result = CliRunner().invoke(
        app, ["review", str(project.folder), "--pair", "sft_vs_base", *options], input=keys, catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return result.output


def test_a_review_is_resumed_and_corrects_the_comparison(compared: Project) -> None:
    path = compared.folder / "human.jsonl"
    first = review(compared, "1 2 0 u 2 q", "--by", "ann")
    assert "0 of 30 comparisons are labelled" in first
    assert "1 of 30" in first
    assert len(read_labels(path)) == 3
    second = review(compared, "1" * 17 + "q", "--by", "ann")
    assert "3 of 30 comparisons are labelled" in second
    assert len(read_labels(path)) == 20
    assert "put `human: human.jsonl` under eval" in second
    assert "judge corrected by people: 0." in second

    config = yaml.safe_load((compared.folder / "fairlead.yaml").read_text(encoding="utf-8"))
    config["eval"]["human"] = "human.jsonl"
    config["gate"]["criteria"].append({"figure": "pairwise.sft_vs_base.human.low", "at_least": 0.99})
    write_config(compared.folder, config)
    project = Project(compared.folder)
    report = project.report()
    human = report["pairwise"]["sft_vs_base"]["human"]
    assert (human["labels"], human["reviewers"]) == (20, 1)
    assert 0 <= human["low"] <= human["win_rate"] <= human["high"] <= 1
    [criterion] = [c for c in report["gate"]["criteria"] if c["figure"].endswith("human.low")]
    assert criterion["value"] == human["low"]
    assert criterion["status"] != "passed"
    page = project.artifact("report").file("report.md").read_text(encoding="utf-8")
    assert "Judge corrected by people" in page
    again = review(project, "q", "--by", "bob")
    assert "put `human" not in again


def test_a_figure_of_people_needs_labels(project: Project) -> None:
    config = yaml.safe_load((project.folder / "fairlead.yaml").read_text(encoding="utf-8"))
    config["gate"]["criteria"].append({"figure": "pairwise.dpo_vs_sft.human.low", "at_least": 0.5})
    write_config(project.folder, config)
    with pytest.raises(ConfigError, match=r"human\.low, which is not measured"):
        Project(project.folder)


def test_what_is_missing_for_a_review_is_one_line(project: Project) -> None:
    for options, message in (
        ((), "--by NAME"),
        (("--by", "ann", "--pair", "dpo_vs_gpt"), "there is no pair dpo_vs_gpt"),
    ):
        result = CliRunner().invoke(app, ["review", str(project.folder), *options])
        assert isinstance(result.exception, ConfigError)
        assert message in str(result.exception)
