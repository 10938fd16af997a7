"""What would stop a run is found before its first stage, all at once, and what no stage needs is not asked for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fairlead import Project
from fairlead.preflight.base_model import ModelFiles
from fairlead.preflight.check import Preflight, check
from fairlead.preflight.resources import disk_needed, memory_needed, too_small
from fairlead.preflight.scope import Scope
from tests.support.misbehaving import JudgeServer
from tests.support.projects import tiny_config, write_config


def fits(**changes: Any) -> dict[str, Any]:
    """A config of the tiny project, one level of it replaced key by key."""
    config = tiny_config()
    for key, value in changes.items():
        config[key] = {**config.get(key, {}), **value} if isinstance(value, Mapping) and key != "judge" else value
    return config


def checked(folder: Path, config: dict[str, Any], until: str | None = None, *, offline: bool = True) -> Preflight:
    write_config(folder, config)
    return check(Project(folder), until, offline=offline)


def problem(folder: Path, config: dict[str, Any], **kwargs: Any) -> str:
    """The only problem."""
    [found] = checked(folder, config, **kwargs).problems
    return str(found)


def openai(server: str = "http://127.0.0.1:1/v1", **settings: Any) -> dict[str, Any]:
    return {"kind": "openai", "model": "m", "base_url": server, "api_key_env": None, "timeout_s": 5.0, **settings}


def rows(folder: Path, name: str, content: list[dict[str, Any]]) -> None:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")


def test_a_project_that_runs_has_no_problem_and_its_stages_rows_and_costs_are_told(tiny_project: Path) -> None:
    preflight = checked(tiny_project, fits())
    assert preflight.problems == ()
    assert preflight.stages[0] == "prepare"
    assert preflight.stages[-1] == "report"
    assert preflight.rows == {"data.sft": 16, "data.prompts": 16, "data.eval": 8}
    assert preflight.forecast is not None
    assert not (tiny_project / "artifacts").exists()


def test_all_problems_are_found_at_once(tiny_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    (tiny_project / "eval.jsonl").unlink()
    config = fits(
        judge=openai(api_key_env="JUDGE_KEY"),
        model={"name": "./nowhere"},
        dpo={"report_to": ["neptune"]},
        eval={"metrics": [{"kind": "function", "name": "kind", "function": "checks.py:polite"}]},
    )
    found = {item.where: item for item in checked(tiny_project, config).problems}
    assert set(found) == {"data.eval", "judge.api_key_env", "model.name", "dpo.report_to", "eval.metrics.0"}
    assert all(item.remedy for item in found.values())


def test_a_missing_key_is_found_before_anything_is_trained(tiny_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    config = fits(judge=openai(api_key_env="JUDGE_KEY"))
    message = problem(tiny_project, config, offline=False)
    assert "the environment variable JUDGE_KEY is not set — export JUDGE_KEY=" in message
    assert checked(tiny_project, config, until="sft").problems == (), "SFT needs no judge"


def test_an_endpoint_is_asked_one_tiny_request_unless_offline(tiny_project: Path) -> None:
    with JudgeServer() as server:
        config = fits(judge=openai(server.base_url))
        assert checked(tiny_project, config, offline=True).problems == ()
        assert server.stats.requests == 0
        assert checked(tiny_project, config, offline=False).problems == ()
        assert server.stats.requests == 1


def test_nobody_at_the_address_is_a_problem(tiny_project: Path) -> None:
    message = problem(tiny_project, fits(judge=openai()), offline=False)
    assert message.startswith("judge: http://127.0.0.1:1/v1 (model m): cannot be reached")
    assert "start the server, or correct base_url" in message


@pytest.mark.parametrize(
    ("status", "expected"), [(401, "authentication failed"), (404, "no such model"), (400, "rejects"), (429, None)]
)
def test_what_an_endpoint_answers_is_told_but_that_it_is_busy(
    tiny_project: Path, status: int, expected: str | None
) -> None:
    with JudgeServer(override=lambda _body, _headers: (status, {}, '{"error": {"message": "told so"}}')) as server:
        problems = checked(tiny_project, fits(judge=openai(server.base_url)), offline=False).problems
    assert len(problems) == (expected is not None)
    assert all(str(expected) in str(item) for item in problems)


def test_every_member_of_a_panel_is_asked(tiny_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SECOND_KEY", raising=False)
    with JudgeServer() as server:
        members = [openai(server.base_url), openai(server.base_url, model="n", api_key_env="SECOND_KEY")]
        message = problem(tiny_project, fits(judge={"kind": "panel", "judges": members}), offline=False)
        assert server.stats.requests == 1
    assert message.startswith("judge.judges.1.api_key_env")


def test_a_missing_function_and_a_broken_schema_are_found(tiny_project: Path) -> None:
    (tiny_project / "schema.json").write_text('{"type": 7}', encoding="utf-8")
    metrics = [
        {"kind": "function", "name": "kind", "function": "checks.py:polite"},
        {"kind": "json_schema", "name": "form", "json_schema": "schema.json"},
    ]
    found = [item.where for item in checked(tiny_project, fits(eval={"metrics": metrics})).problems]
    assert found == ["eval.metrics.0", "eval.metrics.1"]


def test_a_tracker_that_is_not_installed_is_found_with_what_installs_it(tiny_project: Path) -> None:
    message = problem(tiny_project, fits(sft={"report_to": ["neptune"]}))
    assert message == "sft.report_to: neptune is not installed — pip install neptune, or take it out of report_to"


def test_a_row_that_cannot_be_read_is_found(tiny_project: Path) -> None:
    with (tiny_project / "prompts.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"question": "?"}\n')
    message = problem(tiny_project, fits())
    assert message.startswith("data.prompts: ")
    assert "17" in message


def test_pairs_that_max_length_empties_are_found(tiny_project: Path) -> None:
    pairs = [
        {"prompt": f"report {n} " + "of the disk " * 30, "chosen": "severity: high", "rejected": "no"} for n in range(8)
    ]
    rows(tiny_project, "pairs.jsonl", pairs)
    config = fits(dpo={"max_length": 64})
    config["data"] = {"sft": "sft.jsonl", "preferences": "pairs.jsonl", "eval": "eval.jsonl"}
    message = problem(tiny_project, config)
    assert message.startswith("dpo.max_length: at least 8 of 8 pairs are empty or equal once cut to 64 tokens")
    assert checked(tiny_project, {**config, "dpo": {**config["dpo"], "max_length": 512}}).problems == ()


def test_prompts_that_would_make_such_pairs_are_found(tiny_project: Path) -> None:
    assert "16 of 16 prompts would make pairs" in problem(tiny_project, fits(dpo={"max_length": 4}))


def test_a_prompt_that_leaves_no_room_for_an_answer_is_found(tiny_project: Path) -> None:
    message = problem(tiny_project, fits(answers={"max_new_tokens": 500}))
    assert message.startswith("answers.max_new_tokens: 500 tokens and the longest prompt of data.eval (")
    assert "exceed the model's context of 512" in message
    most = int(message.rsplit("set it to ", 1)[1].split()[0])
    assert checked(tiny_project, fits(answers={"max_new_tokens": most})).problems == ()


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("config.json", "has no config.json"),
        ("model.safetensors", "has no *.safetensors"),
        ("tokenizer*", "has no tokenizer"),
    ],
)
def test_an_incomplete_model_folder_is_found(tiny_project: Path, file: str, expected: str) -> None:
    for path in (tiny_project / "model").glob(file):
        path.unlink()
    message = problem(tiny_project, fits())
    assert message.startswith("model.name: ")
    assert expected in message


def test_damaged_weights_are_found(tiny_project: Path) -> None:
    (tiny_project / "model" / "model.safetensors").write_bytes(b"no weights at all")
    assert "its weights are damaged" in problem(tiny_project, fits())


def test_a_model_that_is_nowhere_is_found(tiny_project: Path) -> None:
    config = fits(model={"name": "nobody/such-a-model"})
    assert "not in the hub's cache, and HF_HUB_OFFLINE is set" in problem(tiny_project, config, offline=False)
    assert checked(tiny_project, config, offline=True).problems == (), "offline, the hub is not asked"


def test_without_targets_it_says_what_to_write(tiny_project: Path) -> None:
    config = fits(decide={"min_prompts": 2, "waive": None})
    message = problem(tiny_project, config)
    assert message.startswith("decide.targets: there is no target to measure against, and eval.metrics has length — ")
    assert "targets: [{metric: NAME, at_least: 0.9}]" in message
    config["decide"] = {"min_prompts": 2, "targets": [{"metric": "length", "at_least": 0.9}]}
    assert checked(tiny_project, config).problems == ()


def test_a_target_that_nothing_measures_is_found(tiny_project: Path) -> None:
    config = fits()
    config["decide"] = {"min_prompts": 2, "targets": [{"metric": "polite", "at_least": 0.9}]}
    assert "polite" in problem(tiny_project, config)


def test_too_few_rows_for_the_decision_are_found(tiny_project: Path) -> None:
    config = fits()
    config["decide"] = {"targets": [{"metric": "length", "at_least": 0.9}]}
    assert "data.prompts: gives at most 3 prompts for the decision" in problem(tiny_project, config)


def test_too_few_rows_for_the_check_of_the_pairs_are_found_before_the_judge_is_paid(tiny_project: Path) -> None:
    message = problem(tiny_project, fits(data_check={"purpose": "effect"}))
    assert message.startswith("data.prompts: 16 rows make at most 16 pairs, and data_check.purpose effect demands 500")
    waived = {"purpose": "effect", "waive": {"truncated": "random weights", "rows": "a trial"}}
    assert checked(tiny_project, fits(data_check=waived)).problems == ()


def test_a_finished_project_needs_nothing(finished: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "copy"))
    assert check(Project(folder), offline=True) == Preflight((), (), {}, None)
    again = check(Project(folder), force=["gate"], offline=True)
    assert (again.stages, again.problems) == (("gate",), ())


def test_a_model_too_large_for_disk_or_memory_is_found(tiny_project: Path) -> None:
    write_config(tiny_project, fits(dpo={"method": "full"}))
    scope = Scope.of(Project(tiny_project), None, (), offline=True)
    huge = ModelFiles(tiny_project, parameters=10**15, weight_bytes=4 * 10**15)
    disk, memory = too_small(scope, huge)
    assert "the stages write at least" in disk.what
    assert "a model of 1000000.0 billion weights needs at least" in memory.what
    assert list(too_small(scope, ModelFiles(tiny_project, parameters=10**5, weight_bytes=4 * 10**5))) == []


def test_full_weights_need_gradients_and_moments_and_their_checkpoints() -> None:
    assert memory_needed(10**9, bytes_each=2, trains_all=False) == 2 * 10**9
    assert memory_needed(10**9, bytes_each=2, trains_all=True) == 8 * 10**9
    on_disk = ModelFiles(Path(), weight_bytes=10**9)
    assert disk_needed(on_disk, full_stages=1) - disk_needed(on_disk, full_stages=0) == 7 * 10**9
    assert disk_needed(ModelFiles(None, weight_bytes=10**9), full_stages=0) > 10**9, "it is downloaded first"


def test_pairs_are_found_from_the_folder_above_the_project(tiny_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = {"chosen": "severity: high", "rejected": "no idea"}
    rows(tiny_project, "pairs.jsonl", [{"prompt": f"pair {number} of the disk", **pair} for number in range(3)])
    monkeypatch.chdir(tiny_project.parent)
    config = fits(data={"prompts": None, "preferences": "pairs.jsonl"}, data_check={"waive": {"rows": "a test"}})
    for absent in ("judge", "sample", "pairs"):
        config.pop(absent, None)
    config["eval"] = {**config["eval"], "judge": tiny_config()["judge"]}
    preflight = checked(Path(tiny_project.name), config)
    assert preflight.problems == ()
    assert preflight.rows["data.preferences"] == 3


def test_too_few_eval_prompts_for_the_gate_are_told_and_stop_nothing(tiny_project: Path) -> None:
    preflight = checked(tiny_project, fits(gate={"min_prompts": 9}))
    assert preflight.problems == ()
    assert preflight.notes == (
        "data.eval: 8 rows, and gate.min_prompts is 9: the gate will find that this is not enough evidence",
    )
    assert checked(tiny_project, fits(gate={"min_prompts": 8})).notes == ()
    assert checked(tiny_project, fits(gate={"min_prompts": 9}), until="sft").notes == ()
