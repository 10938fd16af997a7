"""Criteria of the comparison: each a row of the table that the gate can name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from fairlead import Project
from fairlead.cost.planned_calls import estimate_stages
from fairlead.errors import DataError
from fairlead.llm.store.reply_store import ReplyStore
from tests.support.judging import says
from tests.support.misbehaving import JudgeServer
from tests.support.projects import write_config


def with_criteria(project: Project, server: JudgeServer, criteria: list[Any], **eval_: Any) -> Project:
    """The project with a comparison by criteria and a gate on the first of them."""
    config = yaml.safe_load((project.folder / "fairlead.yaml").read_text(encoding="utf-8"))
    judge = f"openai:m@{server.base_url}"
    config["eval"] = {**config["eval"], "judge": judge, "pairwise": [], "criteria": criteria, **eval_}
    config["gate"]["criteria"].append({"figure": f"table.{criteria[0]}.dpo", "at_least": 4})
    write_config(project.folder, config)
    return Project(project.folder)


def test_every_criterion_is_a_row_and_the_gate_names_it(project: Project) -> None:
    with JudgeServer(brain=says(json.dumps({"score": 5}))) as server:
        judged = with_criteria(project, server, ["helpfulness", {"name": "tone", "text": "warm"}])
        planned = [estimate for stage in estimate_stages(judged, "eval") for estimate in stage.judges]
        judged.run()
        report = judged.report()
    assert [row["metric"] for row in report["table"]] == ["length", "helpfulness", "tone"]
    assert report["table"][1]["dpo"] == 5.0
    assert sum(estimate.calls for estimate in planned) == server.stats.paid
    [passed] = [c for c in report["gate"]["criteria"] if c["figure"] == "table.helpfulness.dpo"]
    assert (passed["status"], passed["value"]) == ("passed", 5.0)
    states = report["judgements"]["scores"]
    assert (states["scored"], sum(states.values())) == (2 * 3 * 8, 2 * 3 * 8)


def test_a_source_is_read_with_the_eval_rows_and_shown_to_the_judge(project: Project) -> None:
    with JudgeServer(brain=says(json.dumps({"score": 5}))) as server:
        judged = with_criteria(project, server, ["faithfulness"])
        with pytest.raises(DataError, match=r"eval\.jsonl:1: has no source text"):
            judged.run("prepare")
        file = project.folder / "eval.jsonl"
        rows = [{**json.loads(line), "source": f"source {n}"} for n, line in enumerate(file.read_text().splitlines())]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        made = judged.run("eval")
    with ReplyStore.of_project(project.folder) as store:
        questions = "".join(reply.request for reply in store.replies())
    assert all(f"source {n}" in questions for n in range(8))
    assert made["sft"].path == Project(project.folder).artifact("sft").path
    assert Path(made["eval"].file("scores.jsonl")).read_text().count("faithfulness") == 3 * 8
