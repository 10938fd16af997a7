"""A hundred steps of the demo's training end in TRL's weights."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
import trl
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from fairlead import DPOTrainer
from fairlead.demo.base_model import train_base
from fairlead.demo.task import draw_incident, hurried_answer, write_report, write_task
from tests.support.preference_rows import trainer_of

STEPS, BATCH = 100, 4


@pytest.fixture(scope="module")
def demo_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's model after a few steps: its shape, its tokenizer, weights that are no longer random."""
    folder = tmp_path_factory.mktemp("demo")
    write_task(folder, 0, sft=4, prompts=4, eval=4, corpus=400)
    train_base(folder / "corpus.jsonl", folder / "model", seed=0, steps=12)
    return folder / "model"


def pairs(count: int) -> list[dict[str, str]]:
    """Right and hurried answers to reports."""
    rng = Random(0)
    rows: list[dict[str, str]] = []
    while len(rows) < count:
        incident = draw_incident(rng)
        right = hurried_answer(incident, rng, loose=0.0)
        wrong = hurried_answer(incident, rng, loose=1.0)
        rows.append({"prompt": write_report(incident, rng) + "\n", "chosen": right, "rejected": wrong})
    return rows


@pytest.mark.slow
def test_a_hundred_steps_of_the_demos_training_end_in_trls_weights(demo_model: Path, tmp_path: Path) -> None:
    lora = LoraConfig(
        r=16, lora_alpha=32, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], task_type="CAUSAL_LM"
    )
    ends: list[dict[str, torch.Tensor]] = []
    losses: list[list[float]] = []
    start: dict[str, torch.Tensor] = {}
    for kind in (DPOTrainer, trl.DPOTrainer):
        torch.manual_seed(0)
        policy: Any = get_peft_model(AutoModelForCausalLM.from_pretrained(demo_model), lora)
        start = {name: p.detach().clone() for name, p in policy.named_parameters() if "lora" in name}
        trainer = trainer_of(
            kind, demo_model, tmp_path / kind.__module__, model=policy, rows=pairs(STEPS * BATCH),
            per_device_train_batch_size=BATCH, num_train_epochs=1, learning_rate=5e-4, beta=1.0, max_length=320,
            precompute_ref_log_probs=True, extra={"reference_cache": tmp_path / "cache"} if kind is DPOTrainer else {},
        )  # fmt: skip
        trainer.train()
        assert trainer.state.global_step == STEPS
        ends.append({name: p.detach() for name, p in policy.named_parameters() if name in start})
        losses.append([row["loss"] for row in trainer.state.log_history if "loss" in row])
    assert losses[0] == pytest.approx(losses[1], abs=2e-3)
    assert losses[0][-1] < 0.5 * losses[0][0], "it learns, so there is something to compare"
    moved = torch.cat([(ends[1][name] - start[name]).flatten() for name in start])
    apart = torch.cat([(ends[0][name] - ends[1][name]).flatten() for name in start])
    assert float(apart.norm() / moved.norm()) < 0.01
