"""The built-in task: the same bytes for the same seed, nothing of eval elsewhere, imperfect where it says so."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from fairlead.config.project import parse_config
from fairlead.demo.task import Incident, draw_incident, hurried_answer, severity_of, shingles, write_task
from fairlead.files import read_jsonl

SIZES = {"sft": 100, "prompts": 200, "eval": 100, "corpus": 400, "dev": 50}
FILES = tuple(f"{name}.jsonl" for name in SIZES)


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    return [row for _, row in read_jsonl(folder / name)]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("task")
    write_task(folder, 7, **SIZES)
    return folder


def test_the_same_seed_gives_the_same_bytes(task: Path, tmp_path: Path) -> None:
    write_task(tmp_path, 7, **SIZES)
    assert [(tmp_path / name).read_bytes() for name in FILES] == [(task / name).read_bytes() for name in FILES]


def test_another_seed_gives_other_reports(task: Path, tmp_path: Path) -> None:
    write_task(tmp_path, 8, **SIZES)
    ours = {row["prompt"] for row in rows(task, "prompts.jsonl")}
    assert not ours & {row["prompt"] for row in rows(tmp_path, "prompts.jsonl")}


def test_files_hold_as_many_rows_as_asked(task: Path) -> None:
    assert {name.removesuffix(".jsonl"): len(rows(task, name)) for name in FILES} == SIZES


def test_no_eval_report_nor_a_near_one_stands_elsewhere(task: Path) -> None:
    held_out = [shingles(row["prompt"]) for row in rows(task, "eval.jsonl")]
    others = [row["prompt"] for name in ("sft.jsonl", "prompts.jsonl") for row in rows(task, name)]
    others += [row["prompt"] for name in ("corpus.jsonl", "dev.jsonl") for row in rows(task, name)]
    worst = max(
        len(common) / len(a | b) for a in held_out for b in map(shingles, others) if len(common := a & b) > len(a) / 3
    )
    assert worst < 0.8


def test_no_report_is_written_twice(task: Path) -> None:
    prompts = [row["prompt"] for name in ("sft.jsonl", "prompts.jsonl", "eval.jsonl") for row in rows(task, name)]
    assert len(set(prompts)) == len(prompts) == 400


def test_every_gold_severity_and_service_occurs(task: Path) -> None:
    golds = [row["gold"] for row in rows(task, "eval.jsonl")]
    assert {gold["severity"] for gold in golds} == {"low", "medium", "high", "critical"}
    assert len({gold["service"] for gold in golds}) == 12
    assert len({keyword for gold in golds for keyword in gold["keywords"]}) == 16


def test_the_gold_service_stands_in_the_report(task: Path) -> None:
    for row in rows(task, "prompts.jsonl"):
        assert row["gold"]["service"] in row["prompt"]


def incident(**facts: Any) -> Incident:
    calm = {"reach": 0, "staging": False, "data_loss": False, "workaround": False}
    return Incident("search-index", None, "timeouts", "full disk", **{**calm, **facts})


@pytest.mark.parametrize(
    ("facts", "severity"),
    [
        ({}, "low"),
        ({"reach": 1}, "medium"),
        ({"reach": 2}, "high"),
        ({"reach": 3}, "critical"),
        ({"reach": 3, "workaround": True}, "high"),
        ({"reach": 3, "staging": True, "data_loss": True}, "low"),
        ({"reach": 1, "data_loss": True}, "high"),
        ({"reach": 3, "data_loss": True}, "critical"),
        ({"reach": 0, "workaround": True}, "low"),
    ],
)
def test_severity_follows_from_the_facts(facts: dict[str, Any], severity: str) -> None:
    assert severity_of(incident(**facts)) == severity


def test_hurried_people_get_a_quarter_of_the_severities_wrong() -> None:
    rng = Random(3)
    incidents = [draw_incident(rng) for _ in range(2000)]
    answers = [hurried_answer(incident, rng) for incident in incidents]
    wrong = sum(severity_of(i) not in a for i, a in zip(incidents, answers, strict=True)) / len(incidents)
    loose = sum(not a.startswith("severity: ") for a in answers) / len(answers)
    assert 0.15 < wrong < 0.30
    assert 0.05 < loose < 0.11


def test_the_demos_decision_is_made_and_not_waived() -> None:
    config = parse_config(yaml.safe_load(resources.files("fairlead.demo").joinpath("fairlead.yaml").read_text("utf-8")))
    assert config.decide.waive is None
    assert config.data.dev is not None
