"""What the recipes, the data checks and the qualification of the judge do inside of a run."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fairlead import Project
from fairlead.cli.main import app
from fairlead.cost.judge_cost import Estimate
from fairlead.cost.planned_calls import estimate_stage
from fairlead.documents.evaluation import EvalResult
from fairlead.documents.qualification import Qualification
from fairlead.errors import ConfigError, DataError, JudgeError
from fairlead.files import read_json, read_jsonl, write_jsonl
from fairlead.gate.figures import DPO_OVER_SFT, figure_tree
from tests.support.judging import pairwise
from tests.support.misbehaving import JudgeServer
from tests.support.projects import tiny_config, write_config


@pytest.fixture
def tiny_project(project: Project) -> Path:
    """The finished project, so that no test has to train anew what it does not change."""
    return project.folder


def configured(folder: Path, **sections: dict[str, Any]) -> Project:
    config = tiny_config()
    for name, values in sections.items():
        config[name] = {**config.get(name, {}), **values}
    write_config(folder, config)
    return Project(folder)


def drawn_by(project: Project) -> Counter[tuple[str, str]]:
    """Completions by model and by what it was asked."""
    completions = project.run("sample")["sample"].file("completions.jsonl")
    return Counter((row["model"], row["variant"]) for _, row in read_jsonl(completions))


def test_examples_revisions_and_other_models_are_drawn_beside_the_plain_completions(tiny_project: Path) -> None:
    (tiny_project / "principles.yaml").write_text("- Answers are short.\n")
    sample = {"few_shot": 2, "constitution": "principles.yaml", "models": ["model"]}
    project = configured(tiny_project, sample=sample)
    drawn = drawn_by(project)
    counts = {("sft", "plain"): 32, ("sft", "few_shot"): 32, ("sft", "revision"): 16}
    assert drawn == {**counts, ("model", "plain"): 32}
    rows = [row for _, row in read_jsonl(project.artifact("sample").file("completions.jsonl"))]
    prompts = {row["id"] for _, row in read_jsonl(project.artifact("prepare").file("prompts.jsonl"))}
    assert {row["prompt_id"] for row in rows} == prompts, "variants answer the prompts themselves"
    again = configured(tiny_project, sample=sample)
    assert again.artifact("sample").hash == project.artifact("sample").hash


def test_models_of_one_folder_name_each_answer_for_themselves(tiny_project: Path) -> None:
    for parent in ("a", "sft"):
        shutil.copytree(tiny_project / "model", tiny_project / parent / "sft")
    drawn = drawn_by(configured(tiny_project, sample={"models": ["a/sft", "sft/sft"]}))
    assert drawn == {(name, "plain"): 32 for name in ("sft", "a/sft", "sft/sft")}


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"pairs": {"recipe": "revision"}}, "pairs.recipe revision needs sample.constitution"),
        ({"pairs": {"recipe": "models"}}, "pairs.recipe models needs sample.models"),
        ({"sample": {"models": ["sft"]}}, "sft is the name of this project's own model"),
        ({"data_check": {"waive": {"secrets": " "}}}, "without a reason"),
        ({"data_check": {"waive": {"nothing": "x"}}}, "data_check.waive"),
        ({"data_check": {"drop": ["length"]}}, "length is about no rows"),
    ],
)
def test_combinations_that_cannot_work_are_refused(tiny_project: Path, sections: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configured(tiny_project, **sections)


def test_a_margin_that_no_verdict_has_is_refused(tiny_project: Path) -> None:
    judge = {"kind": "openai", "model": "m"}
    for pairs, refused in (({"margin": 1.0}, True), ({"margin": 1.0, "judged_by": "scores"}, False)):
        write_config(tiny_project, tiny_config() | {"judge": judge, "pairs": pairs})
        with pytest.raises(ConfigError, match=r"pairs\.margin is read by nothing") if refused else nullcontext():
            Project(tiny_project)


def test_only_revisions_that_the_judge_prefers_are_chosen(tiny_project: Path) -> None:
    (tiny_project / "principles.yaml").write_text("- Answers are short.\n")
    project = configured(
        tiny_project, sample={"constitution": "principles.yaml"}, pairs={"recipe": "revision", "validation": 0.2}
    )
    pairs = project.run("pairs")["pairs"]
    rows = [row for name in ("train", "validation") for _, row in read_jsonl(pairs.file(f"{name}.jsonl"))]
    assert rows
    draws = [(row["provenance"]["chosen"], row["provenance"]["rejected"]) for row in rows]
    assert {(chosen["model"], chosen["variant"]) for chosen, _ in draws} == {("sft", "revision")}
    assert {(rejected["model"], rejected["variant"]) for _, rejected in draws} == {("sft", "plain")}


def test_scores_judge_with_one_question_an_answer(tiny_project: Path) -> None:
    with JudgeServer(brain=lambda messages: f'{{"score": {1 + len(str(messages)) % 10}}}') as server:
        judge = {"kind": "openai", "model": "m", "base_url": server.base_url, "api_key_env": None}
        config = tiny_config() | {"judge": judge, "pairs": {"judged_by": "scores"}}
        write_config(tiny_project, config)
        project = Project(tiny_project)
        [planned] = estimate_stage(project, "judge")
        made = project.run("judge")["judge"]
        verdicts = [row for _, row in read_jsonl(made.file("verdicts.jsonl"))]
        [after] = estimate_stage(project, "judge")
        assert server.stats.paid <= planned.questions
    assert all(row["margin"] is not None for row in verdicts)
    assert after.calls == 0


def test_an_estimate_before_any_stage_is_at_least_what_is_asked(tiny_project: Path) -> None:
    prices = {"price_per_million_input_tokens": 1.0, "price_per_million_output_tokens": 1.0}
    with JudgeServer(brain=pairwise(lambda a, b: len(b) - len(a))) as server:
        judge = {"kind": "openai", "model": "m", "base_url": server.base_url, "api_key_env": None, **prices}
        config = tiny_config() | {"judge": judge, "eval": {"pairwise": ["dpo_vs_sft"], "scores": True}}
        write_config(tiny_project, config)
        project = Project(tiny_project)
        before: dict[str, Estimate] = {stage: estimate_stage(project, stage)[0] for stage in ("judge", "eval")}
        rows = [{"prompt": f"q{n}", "first": "right", "second": "wrong", "human": "first"} for n in range(6)]
        write_jsonl(tiny_project / "labelled.jsonl", rows)
        write_config(tiny_project, {**config, "judge_check": {"labelled": "labelled.jsonl"}})
        result = CliRunner().invoke(app, ["run", str(tiny_project), "--estimate", "--json"])
        planned = {row["stage"]: row["calls"] for row in json.loads(result.output)}
        assert planned == {
            "judge_check": 2 * (6 + 6 + 3 * 6),
            "judge": before["judge"].calls,
            "eval": before["eval"].calls,
        }
        assert server.stats.requests == 0
        comparison = EvalResult.read(project.run("eval")["eval"].file("comparison.json"))
        paid = server.stats.paid
        assert all(estimate_stage(project, stage)[0].calls == 0 for stage in ("judge", "eval"))
        write_config(tiny_project, {**config, "eval": {"pairwise": [], "scores": True}})
        scores_alone = EvalResult.read(Project(tiny_project).run("eval")["eval"].file("comparison.json"))
    assert before["judge"].questions == 16 * 2
    assert before["eval"].questions == 8 * 2 + 8 * 3
    assert paid <= before["judge"].calls + before["eval"].calls
    assert before["judge"].most_cost is not None
    for verdicts in (comparison, scores_alone):
        assert "shared_judge" in {caveat.name for caveat in verdicts.caveats}
        counts: dict[str, Any] = {"data": {}, "data_check": {}, "training": {}, "drift": {}, "arms": {}}
        assert figure_tree(verdicts, DPO_OVER_SFT, leaks=0, **counts)["shared_judge"] == 1
        assert verdicts.score_states == {"scored": 24, "unreadable": 0, "refused": 0, "failed": 0}


def secret_pairs(folder: Path) -> None:
    rows = [
        {"prompt": f"report number {n} of the disk", "chosen": f"severity: high {n}", "rejected": f"low {n}"}
        for n in range(20)
    ]
    rows[3]["chosen"] = "AKIAABCDEFGHIJKLMNOP"
    write_jsonl(folder / "pairs.jsonl", rows)


def test_pairs_that_fail_a_check_are_not_trained_on_until_it_is_waived(tiny_project: Path) -> None:
    secret_pairs(tiny_project)
    config = tiny_config()
    del config["data"]["prompts"]
    config["data"]["preferences"] = "pairs.jsonl"
    config["data"]["similarity"] = 1.0
    write_config(tiny_project, config)
    with pytest.raises(DataError, match=r"fail these checks: secrets \(1 rows\).*data_check: \{drop: \[secrets\]\}"):
        Project(tiny_project).run("dpo")
    write_config(tiny_project, config | {"data_check": {"drop": ["secrets"]}})
    made = Project(tiny_project).run("data_check")
    assert made["pairs"].manifest.figures["dropped"] == {"secrets": 1}
    trained = [row for name in ("train", "validation") for _, row in read_jsonl(made["pairs"].file(f"{name}.jsonl"))]
    assert len(trained) == 19
    assert "AKIA" not in str(trained)
    write_config(tiny_project, config | {"data_check": {"waive": {"secrets": "AWS's own example key"}}})
    made = Project(tiny_project).run("report")
    record = read_json(made["data_check"].file("data_check.json"))
    assert record["status"] in ("pass", "warn")
    report = read_json(tiny_project / "report" / "report.json")
    assert report["figures"]["data_check"]["waived"] == {"secrets": "AWS's own example key"}
    assert "AWS's own example key" in (tiny_project / "report" / "report.md").read_text(encoding="utf-8")
    assert "| Judgements | win | loss | tie | inconsistent |" in (tiny_project / "report" / "report.md").read_text()


def test_pairs_of_cut_completions_are_mended_by_longer_ones(project: Project) -> None:
    config = tiny_config()
    config["data_check"] = {}
    write_config(project.folder, config)
    words = r"truncated \(\d+ rows\) — raise sample\.max_new_tokens .*drop: \[truncated\]"
    with pytest.raises(DataError, match=words):
        Project(project.folder).run("data_check")


def test_rows_that_the_import_left_out_are_counted_by_the_check(tiny_project: Path) -> None:
    secret_pairs(tiny_project)
    rows = [row for _, row in read_jsonl(tiny_project / "pairs.jsonl")]
    rows[3] = rows[4] | {"rejected": rows[4]["chosen"]}
    write_jsonl(tiny_project / "pairs.jsonl", rows)
    config = tiny_config()
    del config["data"]["prompts"]
    config["data"] |= {"preferences": "pairs.jsonl", "similarity": 1.0}
    write_config(tiny_project, config)
    figures = Project(tiny_project).run("data_check")["data_check"].manifest.figures
    assert figures["status"] == "warn"
    assert "identical (1 rows left out at import)" in figures["warned"]


def test_a_judge_is_qualified_before_it_judges(tiny_project: Path) -> None:
    rows = [{"prompt": f"q{n}", "first": f"right {n}", "second": f"wrong {n}", "human": "first"} for n in range(6)]
    (tiny_project / "labelled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with JudgeServer(brain=pairwise(lambda a, b: 1)) as server:
        judge = {"kind": "openai", "model": "m", "base_url": server.base_url, "api_key_env": None}
        write_config(tiny_project, tiny_config() | {"judge": judge, "judge_check": {"labelled": "labelled.jsonl"}})
        with pytest.raises(JudgeError, match="is not qualified"):
            Project(tiny_project).run("judge")
        asked = server.stats.paid
        server.brain = pairwise(lambda a, b: ("right" in a) - ("right" in b) or len(b) - len(a))
        (tiny_project / ".fairlead" / "ledger.sqlite").unlink()
        made = Project(tiny_project).run("judge")
    assert asked == 2 * (6 + 6 + 3 * 6), "no pair is judged before the judge is qualified"
    judge = Qualification.read(made["judge_check"].file("qualification.json")).pairs
    assert judge is not None
    assert judge.passed
