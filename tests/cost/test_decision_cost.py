"""What the decision asks models behind endpoints is said before it runs, and is what is then asked."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fairlead import Project
from fairlead.cli.main import app
from fairlead.cli.preflight import forecast_lines
from fairlead.cost.decision_cost import dev_prompts
from fairlead.cost.judge_cost import Estimate
from fairlead.cost.planned_calls import estimate_run
from fairlead.decide.candidates import split_dev
from fairlead.llm.store.reply_store import ReplyStore
from fairlead.preflight.check import check
from tests.support.misbehaving import JudgeServer, Messages
from tests.support.projects import tiny_config, write_config

DEV = 3  # a fifth of the 16 prompts
PRICES = {"price_per_million_input_tokens": 1e6, "price_per_million_output_tokens": 2e6}


def endpoint(server: JudgeServer, **more: Any) -> dict[str, Any]:
    return {"kind": "openai", "model": "big", "base_url": server.base_url, **PRICES, **more}


def configure(folder: Path, *, more: dict[str, Any] | None = None, **section: Any) -> Project:
    """Candidates: as given, one instruction, one example, two examples.

    Args:
        more: other sections of the config.
    """
    decide = {
        "targets": [{"metric": "length", "at_least": 0.9}],
        "min_prompts": 2,
        "instructions": ["Be brief."],
        "few_shot": {"ks": [1, 2], "selection": ["fixed"]},
    }
    write_config(folder, tiny_config() | {"decide": decide | section} | (more or {}))
    return Project(folder)


def of_decision(project: Project) -> list[Estimate]:
    stages = [stage.name for stage in project.remaining()]
    return [model for row in estimate_run(project, stages) if row.stage == "decide" for model in row.judges]


def test_the_calls_that_are_estimated_are_the_calls_that_are_made(tiny_project: Path) -> None:
    with JudgeServer(brain=lambda _: "severity: high") as server:
        project = configure(tiny_project, models=[endpoint(server), {"kind": "local", "model": "model", "name": "own"}])
        [planned] = of_decision(project)
        assert (planned.judge, planned.calls) == ("openai:big", 4 * DEV)
        preflight = check(project, offline=True)
        assert preflight.forecast is not None
        [line] = [line for line in forecast_lines(preflight.forecast) if line.startswith("cost of decide")]
        assert line.startswith(f"cost of decide: about {4 * DEV} calls of openai:big, ")
        assert line.endswith("if every candidate is tried")
        estimated = CliRunner().invoke(app, ["run", str(tiny_project), "--estimate", "--json"])
        assert [(row["stage"], row["calls"]) for row in json.loads(estimated.output)] == [("decide", 4 * DEV)]
        assert server.stats.requests == 0
        project.run("decide")
        assert server.stats.paid == planned.calls
        assert of_decision(project) == [], "it is done"
        with ReplyStore.of_project(tiny_project) as store:
            read, cost = (sum(getattr(row, name) or 0 for row in store.totals()) for name in ("input_tokens", "cost"))
    assert planned.input_tokens == pytest.approx(read, rel=0.5)
    assert planned.cost is not None
    assert planned.most_cost is not None
    assert planned.cost / 2 < cost < planned.most_cost


def test_an_optimizer_and_the_judge_of_the_answers_are_counted(tiny_project: Path) -> None:
    rows = [{"prompt": f"report {n} of the database"} for n in range(12)]
    (tiny_project / "dev.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")

    def brain(messages: Messages) -> str:
        text = str(messages)
        if variant := re.search(r"This is variant (\d)", text):
            return f"<instruction>Say {variant[1]}.</instruction>"
        return '{"score": 5}' if "BEGIN ANSWER" in text else "severity: high"

    with JudgeServer(brain=brain) as server:
        project = configure(
            tiny_project,
            more={
                "judge": {"kind": "openai", "model": "m", "base_url": server.base_url, "api_key_env": None},
                "data": {**tiny_config()["data"], "dev": "dev.jsonl"},
            },
            models=[endpoint(server)],
            few_shot=None,
            instruction_optimizer={"model": endpoint(server, model="writer"), "rounds": 1, "per_round": 2},
            targets=[{"metric": "judge_score", "at_least": 9}],
        )
        scored, tuning = map(len, split_dev(dev_prompts(project), optimizing=True))
        planned = {row.judge.split(":")[1]: row.calls for row in of_decision(project)}
        project.run("decide")
    assert scored + tuning == 12
    assert planned == {"big": 4 * scored, "writer": 2, "m": 2 * 4 * scored + 4 * tuning}
    with ReplyStore.of_project(tiny_project) as store:
        asked = {row.model: row.replies for row in store.totals()}
    assert (asked["big"], asked["writer"]) == (planned["big"], planned["writer"])
    assert 0 < asked["m"] <= planned["m"], "two equal answers to one prompt are one question"
