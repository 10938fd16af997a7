"""From nothing to a gate's verdict as a new user goes: what is printed is done, until it runs."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import yaml

from fairlead.starters.write import EXAMPLES
from tests.support.commands import fairlead
from tests.support.misbehaving import JudgeServer
from tests.support.projects import tiny_config, write_config


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_as_it_is_to_the_verdict_that_ten_rows_are_not_enough(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    made = fairlead("init", str(folder), "--from", name)
    assert made.returncode == 0, made.stderr
    assert f"run it as it is: fairlead run {folder}" in made.stdout
    ran = fairlead("run", str(folder))
    assert ran.returncode == 0, ran.stderr
    assert "cost: none, no stage asks an endpoint" in ran.stderr
    assert "gate: insufficient" in ran.stdout
    gate = fairlead("gate", str(folder))
    assert gate.returncode == 2, "not enough evidence"


def test_a_new_project_lists_all_that_is_missing_and_runs_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    assert fairlead("init", str(folder)).returncode == 0
    environment = {**os.environ, "OPENAI_API_KEY": ""}
    ran = fairlead("run", str(folder), env=environment)
    assert ran.returncode == 3
    lines = ran.stderr.splitlines()
    assert lines[0] == "6 problems would stop the run:"
    keys = [line.removeprefix("- ").split(":")[0] for line in lines if line.startswith("- ")]
    assert keys == ["data.sft", "data.prompts", "data.eval", "decide.targets", "model.name", "judge.api_key_env"]
    assert "Traceback" not in ran.stderr
    assert not (folder / "artifacts").exists()


def test_the_remedies_that_are_printed_lead_to_a_run(tiny_project: Path) -> None:
    """A missing check function, an unknown tracker, a missing key, a too long answer and no targets, mended as told."""
    (tiny_project / "eval.jsonl").rename(tiny_project / "elsewhere.jsonl")
    with JudgeServer(key="sk-test-key") as server:
        config = tiny_config()
        config["judge"] = {"kind": "openai", "model": "m", "base_url": server.base_url, "api_key_env": "JUDGE_KEY"}
        config["eval"] = {"metrics": [{"kind": "function", "name": "kind", "function": "checks.py:polite"}]}
        config["dpo"]["report_to"] = ["neptune"]
        config["answers"]["max_new_tokens"] = 505
        config["decide"] = {"min_prompts": 2}
        write_config(tiny_project, config)
        environment = {name: value for name, value in os.environ.items() if name != "JUDGE_KEY"}
        found = problems(fairlead("check", str(tiny_project), env=environment).stdout)
        assert set(found) == {
            *("data.eval", "eval.metrics.0", "dpo.report_to", "judge.api_key_env", "decide.targets"),
        }
        (tiny_project / "elsewhere.jsonl").rename(tiny_project / "eval.jsonl")  # put the file there
        (tiny_project / "checks.py").write_text("def polite(answer, gold):\n    return 'sorry' in answer\n", "utf-8")
        config["dpo"]["report_to"] = []  # take it out of report_to
        config["decide"] = {"min_prompts": 2, "targets": [{"metric": "kind", "at_least": 0.9}]}
        write_config(tiny_project, config)
        environment["JUDGE_KEY"] = "sk-test-key"  # export JUDGE_KEY=…
        found = problems(fairlead("check", str(tiny_project), env=environment).stdout)
        assert set(found) == {"answers.max_new_tokens"}
        most = re.search(r"set it to (\d+) or less", found["answers.max_new_tokens"])
        assert most is not None
        config["answers"]["max_new_tokens"] = min(8, int(most[1]))
        write_config(tiny_project, config)
        ready = fairlead("check", str(tiny_project), env=environment)
        assert ready.returncode == 0, ready.stdout
        assert "nothing would stop the run" in ready.stdout
        assert re.search(r"cost of judge: about \d+ calls of openai:m, .* no prices are set", ready.stdout)
        as_json = json.loads(fairlead("check", str(tiny_project), "--json", env=environment).stdout)
        assert as_json["problems"] == []
        ran = fairlead("run", str(tiny_project), "--until", "prepare", env=environment)
        assert ran.returncode == 0, ran.stderr


def problems(printed: str) -> dict[str, str]:
    """The problems of a list that was printed, by their key."""
    lines = [line.removeprefix("- ") for line in printed.splitlines() if line.startswith("- ")]
    return {line.split(":")[0]: line for line in lines}


def test_a_budget_that_will_stop_the_run_is_told_with_the_cost_in_the_currency(tiny_project: Path) -> None:
    config = yaml.safe_load((tiny_project / "fairlead.yaml").read_text(encoding="utf-8"))
    config["currency"] = "EUR"
    config["judge"] = {
        "kind": "openai", "model": "m", "base_url": "http://127.0.0.1:1/v1", "api_key_env": None, "max_calls": 10,
        "price_per_million_input_tokens": 1000, "price_per_million_output_tokens": 4000,
    }  # fmt: skip
    write_config(tiny_project, config)
    printed = fairlead("check", str(tiny_project), "--offline").stdout
    [line] = [line for line in printed.splitlines() if line.startswith("cost of judge:")]
    assert "about 32 calls of openai:m" in line
    assert "max_calls 10 will stop it: 4 runs of the same command are needed" in line
    money = re.search(r"about ([\d.]+) EUR, at most ([\d.]+)", line)
    assert money is not None
    assert float(money[1]) < float(money[2])
    assert "250 tokens a reply" in line
