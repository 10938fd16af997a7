"""A project whose SFT model, or DPO model, was made elsewhere: every stage and command works without its training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from fairlead import Project
from fairlead.cli.train import diagnose
from fairlead.config.project import parse_config
from fairlead.config.release import ReleaseSettings
from fairlead.errors import ConfigError, DataError, LeakError, ModelError
from fairlead.files import read_json
from fairlead.models.adapters import variants_of
from fairlead.pipeline import outputs as files
from fairlead.release.export import release
from fairlead.sweep.run import variants
from tests.support.commands import fairlead
from tests.support.judging import pairwise
from tests.support.misbehaving import JudgeServer
from tests.support.models_made_elsewhere import edit_config, make_adapter, make_weights
from tests.support.once import made_once
from tests.support.projects import tiny_config, write_config


def config_with(source: str | dict[str, Any], **values: Any) -> dict[str, Any]:
    """The tiny config with an SFT model made elsewhere in the place of its training."""
    config = tiny_config()
    del config["data"]["sft"]
    return config | {"sft": source if isinstance(source, dict) else {"from": source}} | values


def evaluated_only(**values: Any) -> dict[str, Any]:
    """A config that trains nothing."""
    config = config_with("sft", data={"eval": "eval.jsonl"}, dpo={"from": "dpo"}, **values)
    for key in ("decide", "sample", "data_check"):
        del config[key]
    return config


@pytest.fixture(scope="session")
def on_adapter(tmp_path_factory: pytest.TempPathFactory, finished: Path) -> Path:
    """A project that trained DPO on an adapter made elsewhere, up to its report."""

    def make(folder: Path) -> None:
        for name in ("model", "prompts.jsonl", "eval.jsonl", "checks.py"):
            copy = shutil.copytree if (finished / name).is_dir() else shutil.copy
            copy(finished / name, folder / name)
        make_adapter(folder / "model", folder / "sft", named="model", tokenizer=True)
        write_config(folder, config_with("sft"))
        Project(folder).run()

    return made_once(tmp_path_factory, "on-adapter", make)


@pytest.fixture
def brought(on_adapter: Path, tmp_path: Path) -> Project:
    shutil.copytree(on_adapter, tmp_path / "project")
    return Project(tmp_path / "project")


def test_dpo_goes_on_from_an_adapter_made_elsewhere_and_three_models_are_compared(brought: Project) -> None:
    sft, dpo = brought.artifact("sft"), brought.artifact("dpo")
    source = brought.folder / "sft"
    taken = sft.file("model") / "adapter_model.safetensors"
    assert taken.read_bytes() == (source / "adapter_model.safetensors").read_bytes()
    assert read_json(sft.file("model") / "adapter_config.json")["base_model_name_or_path"] == "model"
    assert read_json(dpo.file("model") / "adapter_config.json")["r"] == 3, "DPO trains the adapter that was brought"
    assert (dpo.file("model") / "adapter_model.safetensors").read_bytes() != taken.read_bytes()
    origin = files.SFT_ORIGIN.read(sft.file("origin.json"))
    assert (origin.source, origin.form, origin.base) == ("sft", "adapter", "model")
    assert set(origin.files) == {"adapter_config.json", "adapter_model.safetensors"}

    report = read_json(brought.folder / "report" / "report.json")
    assert all(row["sft"] is not None for row in report["table"])
    assert set(report["pairwise"]) == {"dpo_vs_sft", "sft_vs_base", "dpo_vs_base"}
    assert report["figures"]["sft"]["brought_from"] == "sft"
    assert "sft.from" in report["lineage"]["sft"]["inputs"]
    assert "The SFT model was not trained here" in (brought.folder / "report" / "reflection.md").read_text("utf-8")
    [caveat] = [w for w in report["warnings"] if w["name"] == "unknown_training_data"]
    assert "eval prompts may be among them" in caveat["text"]
    assert {row.state for row in brought.status()} == {"done"}


def test_another_adapter_at_the_source_makes_its_stage_stale(brought: Project) -> None:
    make_adapter(brought.folder / "model", brought.folder / "sft" / "checkpoint-5", named="model", r=2)
    assert {row.state for row in Project(brought.folder).status()} == {"done"}, "subfolders are not read"
    shutil.rmtree(brought.folder / "sft")
    make_adapter(brought.folder / "model", brought.folder / "sft", named="model", r=2)
    status = {row.stage: row for row in Project(brought.folder).status()}
    assert (status["sft"].state, status["sft"].why) == ("stale", "sft.from changed")
    assert status["prepare"].state == "done"


def test_a_release_says_where_the_model_was_brought_from(brought: Project, tmp_path: Path) -> None:
    release(brought, "v1", str(tmp_path / "out"), candidate="sft", despite="a test", settings=ReleaseSettings())
    card = (tmp_path / "out" / "v1" / "README.md").read_text(encoding="utf-8")
    assert "The SFT model was not trained in this project. It was brought from `sft` as an adapter" in card
    evidence = read_json(tmp_path / "out" / "v1" / "evidence.json")
    assert evidence["brought_from"]["sft"]["files"].keys() == {"adapter_config.json", "adapter_model.safetensors"}
    assert (tmp_path / "out" / "v1" / "adapter_model.safetensors").is_file()


def test_the_rank_of_an_adapter_made_elsewhere_cannot_be_swept(brought: Project) -> None:
    with pytest.raises(ConfigError, match=r"lora\.r may be read by nothing"):
        variants(brought.folder, {"lora.r": [2, 4]})
    assert len(variants(brought.folder, {"dpo.beta": [0.1, 0.5]})) == 2


def test_rows_that_the_model_has_learnt_are_searched_for_eval_prompts(brought: Project) -> None:
    rows = [{"prompt": f"eval report number {n} of the disk", "answer": "full"} for n in range(2)]
    (brought.folder / "learnt.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = config_with("sft")
    config["data"]["sft"] = "learnt.jsonl"
    with pytest.raises(
        LeakError, match=r"data\.sft: 2 of its rows are eval prompts.*take these prompts out of data\.eval"
    ):
        Project(brought.folder, config=parse_config(config)).run("prepare")
    assert parse_config(config).unknown_training == []


@pytest.mark.parametrize("method", ["lora", "full"])
def test_dpo_goes_on_from_full_weights_made_elsewhere(tiny_project: Path, method: str) -> None:
    make_weights(tiny_project / "model", tiny_project / "sft")
    config = config_with("sft", dpo={**tiny_config()["dpo"], "method": method})
    made = Project(tiny_project, config=parse_config(config)).run("dpo")
    taken = made["sft"].file("model")
    assert (taken / "model.safetensors").read_bytes() == (tiny_project / "sft" / "model.safetensors").read_bytes()
    assert not (taken / "model.safetensors").samefile(tiny_project / "sft" / "model.safetensors")
    dpo = variants_of({name: made[name].file("model") for name in ("sft", "dpo")})["dpo"]
    assert (dpo.base == taken, dpo.adapter is not None) == ((True, True) if method == "lora" else (False, False))


def test_dpo_of_all_weights_merges_the_adapter_first(brought: Project) -> None:
    config = config_with("sft", dpo={**tiny_config()["dpo"], "method": "full"})
    made = Project(brought.folder, config=parse_config(config)).run("dpo")
    assert (made["dpo"].file("model") / "model.safetensors").is_file()


def test_dora_with_a_rank_pattern_is_trained_on_and_compared(tiny_project: Path) -> None:
    make_adapter(tiny_project / "model", tiny_project / "sft", use_dora=True, rank_pattern={"q_proj": 5})
    made = Project(tiny_project, config=parse_config(config_with({"from": "sft"}))).run("answers")
    assert read_json(made["dpo"].file("model") / "adapter_config.json")["use_dora"] is True


def test_models_made_elsewhere_are_evaluated_without_any_training(brought: Project) -> None:
    make_adapter(brought.folder / "model", brought.folder / "dpo", named="model", r=5)
    write_config(brought.folder, evaluated_only())
    project = Project(brought.folder)
    assert [stage.name for stage in project.stages] == [
        *("prepare", "decide", "sft", "dpo", "answers", "eval", "probe", "gate", "report")
    ]
    project.run()
    assert "made elsewhere" in str(project.config.decide.waive)
    report = read_json(brought.folder / "report" / "report.json")
    assert report["decision"]["verdict"] == "waived"
    assert all(row["dpo"] is not None and row["sft"] is not None for row in report["table"])
    assert [w["name"] for w in report["warnings"]].count("unknown_training_data") == 2
    assert {row.state for row in project.status()} == {"done"}
    with pytest.raises(DataError, match=r"there is no training log: dpo\.from brings a model"):
        diagnose(brought.folder)
    with pytest.raises(ConfigError, match="there is no DPO training to sweep"):
        variants(brought.folder, {"dpo.beta": [0.1]})


def test_what_cannot_be_used_is_said_before_any_stage_runs(tiny_project: Path) -> None:
    make_adapter(tiny_project / "model", tiny_project / "sft", named="org/other")
    write_config(tiny_project, config_with("sft"))
    with pytest.raises(ModelError, match=r"the adapter's base is org/other, and model\.name is model"):
        Project(tiny_project).run()
    assert not (tiny_project / "artifacts").exists()


def test_an_adapter_as_base_model_is_refused_at_once_with_what_to_write(tiny_project: Path) -> None:
    make_adapter(tiny_project / "model", tiny_project / "adapter", named="org/base")
    write_config(tiny_project, tiny_config() | {"model": {"name": "adapter"}})
    said = r"set model\.name to its base, org/base, and bring the adapter as sft: \{from: adapter\}"
    with pytest.raises(ConfigError, match=r"model\.name names a PEFT adapter \(adapter\), not a base model.*" + said):
        Project(tiny_project)
    edit_config(tiny_project / "adapter", base_model_name_or_path=None)
    with pytest.raises(ConfigError, match=r"set model\.name to its base and bring"):
        Project(tiny_project)


def test_a_config_that_brings_a_model_and_trains_it_is_refused() -> None:
    for section, key, value in (("sft", "epochs", 2), ("dpo", "loss_type", ["ipo"])):
        config = evaluated_only() | {section: {"from": "x", key: value}}
        with pytest.raises(ConfigError, match=f"{section}: from brings a trained model, so nothing reads {key}"):
            parse_config(config)
    with pytest.raises(ConfigError, match=r"data\.prompts is read by nothing: dpo\.from"):
        parse_config(evaluated_only() | {"data": {"eval": "e", "prompts": "p"}})
    with pytest.raises(ConfigError, match=r"training\.sft\.validation_loss, which is not measured"):
        parse_config(config_with("x", gate={"criteria": [{"figure": "training.sft.validation_loss", "at_most": 1}]}))


@pytest.mark.slow
def test_a_project_with_own_rows_a_ready_adapter_and_an_endpoint_runs_to_a_gate(
    tmp_path: Path, tiny_model: Path
) -> None:
    """As a user, in three commands: `fairlead init`, the YAML edited, `fairlead run` and `fairlead gate`."""
    folder = tmp_path / "mine"
    assert fairlead("init", str(folder)).returncode == 0
    make_adapter(tiny_model, folder / "last-week", named=str(tiny_model), tokenizer=True)
    (folder / "data").mkdir(exist_ok=True)
    for name, count in (("prompts", 12), ("eval", 6)):
        rows = [json.dumps({"prompt": f"{name}: what is wrong with disk {n} of the database?"}) for n in range(count)]
        (folder / "data" / f"{name}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    config = yaml.safe_load((folder / "fairlead.yaml").read_text(encoding="utf-8"))
    del config["data"]["sft"]
    config["model"] = {"name": str(tiny_model), "dtype": "float32"}
    config["decide"] = {"waive": "the SFT model has been in use since last week"}
    config["data_check"] = {"waive": {"truncated": "random weights"}}
    config["sft"] = {"from": "last-week"}
    config["dpo"] |= {"batch_size": 4, "learning_rate": 1.0e-3, "max_length": 128}
    config["sample"]["max_new_tokens"] = config["answers"]["max_new_tokens"] = 8
    with JudgeServer(brain=pairwise(lambda first, second: len(second) - len(first))) as server:
        config["judge"] = {"kind": "openai", "model": "m", "base_url": server.base_url, "api_key_env": None}
        write_config(folder, config)
        run = fairlead("run", str(folder))
        assert run.returncode == 0, run.stderr
        gate = fairlead("gate", str(folder))
    assert gate.returncode == 2, "six prompts are not enough evidence"
    assert "gate: insufficient" in run.stdout
    assert "dpo vs sft" in run.stdout
    assert "sft was made elsewhere" in run.stdout + run.stderr
