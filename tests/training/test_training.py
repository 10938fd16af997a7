"""Training on real trackers, real data and unusual models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fairlead import Project
from fairlead.config.model import ModelSection
from fairlead.config.project import parse_config
from fairlead.errors import ModelError, TrainingError
from fairlead.models.loading import load_base, load_tokenizer
from fairlead.training.hf_trainer import newest_checkpoint
from fairlead.training.measurements import read_metrics
from tests.support.projects import tiny_config, write_config


def test_wandb_offline_gets_the_run(tiny_project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    config = tiny_config()
    config["sft"]["report_to"] = ["wandb"]
    write_config(tiny_project, config)
    Project(tiny_project).run("sft")
    import wandb

    wandb.finish()
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


def test_a_tracker_that_is_not_installed_is_one_line(tiny_project: Path) -> None:
    config = tiny_config()
    config["sft"]["report_to"] = ["comet_ml"]
    write_config(tiny_project, config)
    with pytest.raises(TrainingError, match="comet_ml is not installed"):
        Project(tiny_project).run("sft")


def test_a_target_that_the_model_lacks_is_refused_with_those_it_has(tiny_project: Path) -> None:
    config = tiny_config()
    config["lora"]["targets"] = ["c_attn"]
    write_config(tiny_project, config)
    with pytest.raises(ModelError, match=r"no modules named c_attn.*q_proj"):
        Project(tiny_project).run("sft")


def test_pairs_that_do_not_fit_stop_training_above_a_share(tiny_project: Path) -> None:
    config = tiny_config()
    config["dpo"]["max_length"] = 4
    write_config(tiny_project, config)
    with pytest.raises(TrainingError, match=r"raise dpo\.max_length"):
        Project(tiny_project).run("dpo")


def test_sft_names_the_rows_whose_prompt_leaves_no_room_for_an_answer(
    tiny_project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny_config()
    config["sft"] |= {"max_length": 4, "validation": 0.0, "epochs": 1}
    config["data_check"] = {"waive": {"too_long": "the training says so too"}}
    write_config(tiny_project, config)
    with pytest.raises(TrainingError, match=r"sft\.max_length: all \d+ rows have a prompt of 4 tokens or more"):
        Project(tiny_project).run("sft")
    rows = (tiny_project / "sft.jsonl").read_text(encoding="utf-8")
    short = json.dumps({"prompt": "a", "answer": "b"}) + "\n"
    (tiny_project / "sft.jsonl").write_text(rows + short, encoding="utf-8")
    with caplog.at_level("WARNING"):
        made = Project(tiny_project).run("sft")["sft"]
    count = len(rows.splitlines())
    assert f"{count} of {count + 1} rows have a prompt of 4 tokens or more: dropped" in caplog.text
    assert made.manifest.figures["train"] == 1


def test_a_learning_rate_that_explodes_is_told_and_not_saved(tiny_project: Path) -> None:
    config = tiny_config()
    config["sft"] |= {"learning_rate": 1e30, "max_grad_norm": 1e30, "epochs": 8, "warmup": 0}
    write_config(tiny_project, config)
    with pytest.raises(TrainingError, match="lower learning_rate"):
        Project(tiny_project).run("sft")
    assert not list((tiny_project / "artifacts" / "sft").glob("*/manifest.json"))


def test_four_bit_needs_cuda_and_says_so(tiny_model: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(ModelError, match="4bit needs a CUDA device"):
        load_base(ModelSection(name=str(tiny_model), quantization="4bit"), tiny_model)


def test_a_tokenizer_without_a_pad_token_is_padded_with_its_end(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("pad_token", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = load_tokenizer(ModelSection(name=str(folder)), tmp_path)
    assert tokenizer.pad_token == tokenizer.eos_token


def test_half_a_checkpoint_is_passed_over(tmp_path: Path) -> None:
    for step, state in ((2, '{"global_step": 2}'), (4, '{"global_st')):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text(state)
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-2"


def test_a_torn_line_of_metrics_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st')
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 1}]


def imported_config(shared_data: Path) -> dict[str, Any]:
    return {
        "name": "multi-turn pairs",
        "model": {"name": "model"},
        "data": {"preferences": str(shared_data / "dpo_en_demo.json"), "eval": "eval.jsonl"},
        "lora": {"r": 4},
        "sft": None,
        "decide": {"waive": "there is nothing to measure here"},
        "dpo": {"epochs": 0.2, "max_length": 480, "max_dropped": 1.0, "log_every": 2, "eval_every": 4, "save_every": 4},
        "answers": {"max_new_tokens": 8},
        "eval": {"metrics": [{"kind": "length", "name": "length", "max_words": 100}], "pairwise": []},
        "gate": {"criteria": [{"figure": "leaks", "at_most": 0}]},
    }


@pytest.mark.slow
def test_multi_turn_sharegpt_pairs_train_a_model_without_sft(tiny_project: Path, shared_data: Path) -> None:
    config = imported_config(shared_data)
    assert parse_config(config).sft is None
    write_config(tiny_project, config)
    made = Project(tiny_project).run()
    assert "sft" not in made
    figures = made["pairs"].manifest.figures
    prepared = made["prepare"].manifest.figures
    assert figures["train"] + figures["validation"] == prepared["preferences"]
    assert prepared["preferences"] + prepared["preferences_duplicates"] + prepared["preferences_leaks_dropped"] == 300
    assert made["dpo"].manifest.figures["steps"] > 0
    assert made["probe"].manifest.figures["implicit_reward_pairs_too_long"] > 0
    report = json.loads((tiny_project / "report" / "report.json").read_text())
    assert report["table"][0]["sft"] is None
    assert report["table"][0]["against"] == "base"
