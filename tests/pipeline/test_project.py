"""A whole project on a tiny model: every stage runs, nothing runs twice, a kill loses nothing."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fairlead import Project
from fairlead.config.project import Config
from fairlead.errors import ArtifactError, ConfigError, DataError, LeakError, ProjectBusyError
from fairlead.files import read_json
from fairlead.pipeline.graph import stages_of
from fairlead.pipeline.lock import project_lock
from fairlead.training.measurements import read_metrics
from tests.support.commands import fairlead, fairlead_as_installed, run_command
from tests.support.processes import Forked
from tests.support.projects import tiny_config, write_config

STAGES = [
    "prepare",
    "rows_check",
    "decide",
    "sft",
    "sample",
    "judge",
    "pairs",
    "data_check",
    "dpo",
    "answers",
    "eval",
    "probe",
    "gate",
    "report",
]
TIMES = {"seconds", "versions"}
NO_SFT = {"metrics": [{"kind": "length", "name": "length", "max_words": 3}], "pairwise": ["dpo_vs_base"]}


def figures(folder: Path) -> Any:
    """report.json without what times and differs between undisturbed runs."""
    report = read_json(folder / "report" / "report.json")
    for name in ("stages", "lineage", "versions"):
        del report[name]
    for arm in report.get("arms", {}).values():
        del arm["seconds_per_1000"]
    return report


def states(folder: Path) -> dict[str, str]:
    return {row.stage: row.state for row in Project(folder).status()}


@pytest.mark.slow
def test_a_project_runs_once_and_reruns_only_what_changed(tiny_project: Path) -> None:
    assert set(states(tiny_project).values()) == {"never run"}
    made = Project(tiny_project).run()
    assert list(made) == STAGES
    for artifact in made.values():
        artifact.verify()
    assert set(states(tiny_project).values()) == {"done"}
    report = read_json(tiny_project / "report" / "report.json")
    assert set(report) >= {"table", "pairwise", "gate", "stages", "lineage"}
    assert set(report["table"][0]) >= {"metric", "base", "sft", "dpo", "delta", "delta_low", "delta_high", "n"}
    assert set(report["pairwise"]["dpo_vs_sft"]) >= {"win_rate", "low", "high", "n", "missing"}
    assert set(report["stages"]) == set(STAGES) - {"report"}

    result = fairlead_as_installed("run", str(tiny_project))
    assert result.returncode == 0, result.stderr
    assert "[1/" not in result.stderr, "a second run must do nothing"

    config = tiny_config()
    config["dpo"]["beta"] = 0.3
    write_config(tiny_project, config)
    rows = {row.stage: row for row in Project(tiny_project).status()}
    assert rows["dpo"].why == "dpo.beta: 0.1 → 0.3"
    assert [name for name in STAGES if rows[name].state == "stale"] == STAGES[STAGES.index("dpo") :]
    again = Project(tiny_project).run()
    for name in ("prepare", "sft", "sample", "judge", "pairs"):
        assert again[name].path == made[name].path
    assert again["dpo"].path != made["dpo"].path

    tampered = next(again["dpo"].path.rglob("adapter_model.safetensors"))
    data = bytearray(tampered.read_bytes())
    data[-1] ^= 1
    tampered.write_bytes(data)
    with pytest.raises(ArtifactError, match=r"adapter_model\.safetensors has changed since the manifest was written"):
        again["dpo"].verify()


def test_the_metrics_of_training_are_logged(project: Project) -> None:
    dpo = project.run("dpo")["dpo"]
    rows = read_metrics(dpo.file("metrics.jsonl"))
    keys = set().union(*rows)
    assert keys >= {"loss", "rewards/margins", "rewards/accuracies", "logps/chosen", "eval_rewards/margins"}
    assert dpo.manifest.figures["validation_reward_gap"] is not None


@pytest.mark.slow
def test_sigkill_at_random_moments_ends_in_the_same_figures(finished: Path, tiny_project: Path) -> None:
    moments = random.Random(0)
    for stage in ("sft", "sample", "dpo", "answers"):
        process = Forked(run_command, "run", str(tiny_project))
        process.wait_for_error_text(f"] {stage}: ")
        time.sleep(moments.uniform(0, 0.3))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "the run must be cut off, not be done"
    assert fairlead("run", str(tiny_project)).returncode == 0
    assert figures(tiny_project) == figures(finished)


def test_a_second_run_says_who_holds_the_project(tiny_project: Path) -> None:
    with project_lock(tiny_project), pytest.raises(ProjectBusyError, match=f"process {os.getpid()}"):
        Project(tiny_project).run()


def test_an_eval_prompt_in_the_training_data_is_dropped_or_refused(tiny_project: Path) -> None:
    leaked = json.dumps({"prompt": "eval report number 3 of the disk", "answer": "x"})
    with (tiny_project / "sft.jsonl").open("a", encoding="utf-8") as file:
        file.write(leaked + "\n")
    prepared = Project(tiny_project).run("prepare")["prepare"]
    assert prepared.manifest.figures["sft_leaks_dropped"] == 1
    config = tiny_config()
    config["data"]["on_leak"] = "fail"
    write_config(tiny_project, config)
    with pytest.raises(LeakError, match="1 prompts are eval prompts"):
        Project(tiny_project).run("prepare")


def test_a_missing_data_file_is_one_line_that_names_the_key(tiny_project: Path) -> None:
    (tiny_project / "eval.jsonl").unlink()
    with pytest.raises(DataError, match=r"data\.eval names .*eval\.jsonl, which does not exist"):
        Project(tiny_project).run()


def test_a_check_without_its_function_is_refused_before_the_first_stage_runs(tiny_project: Path) -> None:
    config = tiny_config()
    config["eval"]["metrics"].append({"kind": "function", "name": "polite", "function": "checks.py:polite"})
    write_config(tiny_project, config)
    with pytest.raises(ConfigError, match=r"eval\.metrics\.1: .*checks\.py: defines no function polite"):
        Project(tiny_project).run()
    assert not (tiny_project / "artifacts" / "prepare").exists()


def test_an_unknown_stage_is_refused_with_those_that_exist(tiny_project: Path) -> None:
    with pytest.raises(ConfigError, match="its stages are prepare, rows_check, decide, sft"):
        Project(tiny_project).run("release")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("sft.jsonl", b"", "sft.jsonl"),
        ("sft.jsonl", b'{"prompt": "a"}\n', "sft.jsonl:1"),
        ("sft.jsonl", b'{"prompt": "a", "ans', "sft.jsonl:1"),
        ("prompts.jsonl", b"caf\xe9\n", "not UTF-8"),
        ("model/config.json", b"{}", "model"),
        ("fairlead.yaml", b"model: [", "fairlead.yaml"),
    ],
)
def test_bad_input_is_one_line_and_a_status(tiny_project: Path, file: str, content: bytes, message: str) -> None:
    (tiny_project / file).write_bytes(content)
    result = fairlead("sft", str(tiny_project))
    assert result.returncode == 3
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("fairlead: ")
    assert message in last
    assert "Traceback" not in result.stderr


def test_gate_exit_status_speaks_for_itself(project: Project) -> None:
    assert fairlead("gate", str(project.folder)).returncode == 0
    config = tiny_config()
    config["gate"]["criteria"].append({"figure": "table.length.dpo", "at_least": 1.5})
    write_config(project.folder, config)
    assert fairlead("gate", str(project.folder)).returncode == 1
    config["gate"]["min_prompts"] = 100
    write_config(project.folder, config)
    assert fairlead("gate", str(project.folder)).returncode == 2


def test_a_run_that_has_nothing_to_do_imports_nothing_heavy() -> None:
    """Torch and statsmodels take seconds to import; `fairlead run` on a finished project must not wait for them."""
    rooms = "fairlead.cli.main, fairlead.decide.markdown, fairlead.decide.permission"
    code = f"import sys, {rooms}; print({{'torch', 'statsmodels'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


def test_without_sft_no_line_speaks_of_an_sft_model() -> None:
    config = tiny_config()
    with_sft = Config.model_validate(config)
    without = Config.model_validate({**config, "sft": None, "data": {"prompts": "p", "eval": "e"}, "eval": NO_SFT})
    lines = {
        name: [stage.summary_for(c) for stage in stages_of(c)] for name, c in (("with", with_sft), ("out", without))
    }
    assert sum("SFT" in line for line in lines["with"]) == 3
    assert [line for line in lines["out"] if "SFT" in line] == []
    assert "completions of the base model for every task prompt" in lines["out"]
