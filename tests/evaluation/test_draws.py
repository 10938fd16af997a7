"""Several answers to every held-out prompt: one cluster each, narrower intervals, and the same prompts everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from fairlead import Project
from fairlead.cli.main import app
from fairlead.config.project import parse_config
from fairlead.errors import ConfigError
from fairlead.evaluation.human.project import labelled_pair
from fairlead.files import read_json, read_jsonl
from fairlead.records import ModelPair
from tests.evaluation.test_arms import decided, folder
from tests.support.projects import tiny_config, write_config

__all__ = ["folder"]
DRAWS = 3


@pytest.fixture
def drawn(folder: Path) -> Path:
    """A project that answered every held-out prompt three times, its best prompt too."""
    config = decided()
    config["answers"] = {"max_new_tokens": 8, "batch_size": 8, "temperature": 1.0, "per_prompt": DRAWS}
    write_config(folder, config)
    Project(folder).run()
    return folder


def test_every_arm_answers_every_prompt_so_often_and_they_are_one_cluster(drawn: Path) -> None:
    project = Project(drawn)
    answers = project.answers()
    assert {arm: len(of_arm) for arm, of_arm in answers.items()} == dict.fromkeys(
        ("base", "sft", "dpo", "prompted"), 8 * DRAWS
    )
    for of_arm in answers.values():
        assert [answer.index for answer in of_arm] == list(range(DRAWS)) * 8
        texts: dict[str, set[str]] = {}
        for answer in of_arm:
            texts.setdefault(answer.prompt_id, set()).add(answer.text)
        assert max(map(len, texts.values())) > 1, "draws differ"
    asked = {arm: [answer.prompt_id for answer in of_arm] for arm, of_arm in answers.items()}
    assert asked["prompted"] == asked["base"] == asked["dpo"]
    report = read_json(drawn / "report" / "report.json")
    assert report["prompts"] == 8
    assert report["plan"]["prompts"] == 8
    assert {row["n"] for row in report["table"]} == {8 * DRAWS}
    assert report["draws"]["per_prompt"] == DRAWS
    assert all(ratio > 0 for ratio in report["draws"]["width_ratio"].values())
    comparison = read_json(project.artifact("eval").file("comparison.json"))
    assert "8 clusters" in comparison["table"][0]["difference"]["delta"]["method"]
    page = (drawn / "report" / "report.md").read_text(encoding="utf-8")
    assert f"Each prompt was answered {DRAWS} times" in page


def test_people_label_every_draw_and_an_estimate_counts_them(drawn: Path) -> None:
    project = Project(drawn)
    reviewed = labelled_pair(project, ModelPair("dpo", "sft"), "ann")
    assert len(reviewed.comparisons) == len(reviewed.verdicts) == len(reviewed.clusters) == 8 * DRAWS
    said = CliRunner().invoke(app, ["eval", "--estimate", "-C", str(drawn)])
    assert said.exit_code == 0, said.output
    rows = [row for _, row in read_jsonl(project.artifact("eval").file("verdicts.jsonl"))]
    assert sum(row["pair"] == "dpo_vs_sft" for row in rows) == 8 * DRAWS


def test_one_answer_says_nothing_of_draws(project: Project) -> None:
    assert "draws" not in read_json(project.folder / "report" / "report.json")


def test_greedy_answers_to_one_prompt_are_all_the_same() -> None:
    with pytest.raises(ConfigError, match=r"answers.*per_prompt above 1 needs a temperature above 0"):
        parse_config({**tiny_config(), "answers": {"per_prompt": 2}})
