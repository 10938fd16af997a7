"""A step computed in microbatches is the step: same gradient, same figures, fewer tokens at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import trl
from transformers import LlamaConfig

from fairlead import DPOTrainer
from fairlead.training.dpo_trainer.pair_microbatches import split
from fairlead.training.microbatches import tokens_at_once
from fairlead.training.shared_prefix.layout import build_layout
from tests.support.preference_rows import ROWS, STEP, llama, trainer_of

FEW = 40  # tokens; the batch has some 80 in three prompts, one of them with two pairs


def one_step(kind: Any, tiny_model: Path, out: Path, max_tokens: int | None, **config: Any) -> tuple[Any, list[int]]:
    """A trainer after one step, and the tokens of each of its forwards; without `max_tokens`, TRL's trainer."""
    extra: dict[str, Any] = {"ref_model": llama(1)}
    if max_tokens is not None:
        extra["tokens_at_once"] = max_tokens
    trainer = trainer_of(kind, tiny_model, out, extra=extra, **{**STEP, **config})
    tokens: list[int] = []

    def count(module: Any, inputs: Any, output: Any) -> None:
        del inputs
        tokens.extend([output.shape[1]] * module.training)

    trainer.model.model.embed_tokens.register_forward_hook(count)
    trainer.train()
    return trainer, tokens


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"loss_type": ["sigmoid_norm"]},
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]},
        {"use_weighting": True},
        {"ld_alpha": 0.3},
        {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2},
        {"gradient_checkpointing": True},
    ],
    ids=str,
)
def test_a_step_in_microbatches_is_trls_step(tiny_model: Path, tmp_path: Path, config: dict[str, Any]) -> None:
    max_tokens = 20 if "gradient_accumulation_steps" in config else FEW
    ours, tokens = one_step(DPOTrainer, tiny_model, tmp_path / "ours", max_tokens, **config)
    theirs, _ = one_step(trl.DPOTrainer, tiny_model, tmp_path / "theirs", None, **config)
    assert len(tokens) > config.get("gradient_accumulation_steps", 1)
    logged, their_log = ours.state.log_history[0], theirs.state.log_history[0]
    assert logged.keys() == their_log.keys()
    assert logged == pytest.approx(their_log, abs=1e-4, rel=1e-4)
    start, mine, their = (model.state_dict() for model in (llama(), ours.model, theirs.model))
    for name in start:
        moved, their_move = mine[name] - start[name], their[name] - start[name]
        assert float((moved - their_move).norm()) <= 1e-3 * float(their_move.norm()), name
    assert ours.state.num_input_tokens_seen == theirs.state.num_input_tokens_seen


def test_no_microbatch_is_larger_than_allowed_and_no_prompt_is_computed_twice(tiny_model: Path, tmp_path: Path) -> None:
    _, whole = one_step(DPOTrainer, tiny_model, tmp_path / "whole", 10_000)
    _, cut = one_step(DPOTrainer, tiny_model, tmp_path / "cut", FEW)
    assert len(whole) == 1
    assert len(cut) > 1
    assert max(cut) <= FEW
    assert sum(cut) == sum(whole)


@pytest.mark.parametrize("losses", [["aot"], ["sigmoid", "aot_unpaired"]], ids=str)
def test_a_loss_of_the_whole_batch_is_not_cut(tiny_model: Path, tmp_path: Path, losses: list[str]) -> None:
    _, tokens = one_step(DPOTrainer, tiny_model, tmp_path, 1, loss_type=losses)
    assert len(tokens) == 1


def test_microbatches_hold_every_pair_once_with_what_belongs_to_it(tiny_model: Path, tmp_path: Path) -> None:
    trainer = trainer_of(DPOTrainer, tiny_model, tmp_path, precompute_ref_log_probs=True)
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(len(ROWS))])

    def pairs_of(inputs: dict[str, Any]) -> list[tuple[Any, ...]]:
        rows = [
            ids[mask.bool()].tolist() for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
        ]
        half = len(rows) // 2
        return [(rows[i], rows[half + i], float(inputs["ref_chosen_logps"][i])) for i in range(half)]

    microbatches = split(batch, FEW)
    pairs = [pair for microbatch in microbatches for pair in pairs_of(microbatch.inputs)]
    assert sorted(pairs) == sorted(pairs_of(batch))
    assert sum(microbatch.weight for microbatch in microbatches) == pytest.approx(1)
    for name in ("sft", "entropy", "logits/chosen", "logits/rejected", "mean_token_accuracy"):
        assert sum(microbatch.weight_of(name) for microbatch in microbatches) == pytest.approx(1)
    assert len(split(batch, 1)) == 3  # a prompt's two pairs stay together
    assert len(split({**batch, "pixel_values": [1, 2]}, 1)) == 1
    left = {name: values.flip(1) if values.dim() == 2 else values for name, values in batch.items()}
    assert len(split(left, 1)) == 1


def test_prompts_that_begin_alike_share_microbatches_large_enough_to_pay(tiny_model: Path, tmp_path: Path) -> None:
    system = "the service of the database is full | " * 3
    rows = [{**row, "prompt": f"{system}{row['prompt']} {n}"} for n, row in enumerate([*ROWS, *ROWS])]
    trainer = trainer_of(DPOTrainer, tiny_model, tmp_path, rows=rows, max_length=256, precompute_ref_log_probs=True)
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(len(rows))])
    common = int((batch["input_ids"] == batch["input_ids"][0]).all(dim=0).int().argmin())
    assert common > FEW / 2
    microbatches = split(batch, FEW)
    sizes = [int(microbatch.inputs["attention_mask"].sum()) for microbatch in microbatches]
    computed = [build_layout(*_as_given(microbatch.inputs)).input_ids.numel() for microbatch in microbatches]
    assert 1 < len(computed) < len(rows)
    assert max(computed) <= 4 * common
    assert sum(computed) < sum(sizes) / 2


def _as_given(inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    ids = inputs["input_ids"]
    return ids, inputs["attention_mask"], ids.masked_fill(inputs["completion_mask"] == 0, -100)


def test_wide_models_compute_fewer_tokens_at_once() -> None:
    cpu = torch.device("cpu")
    small = LlamaConfig(hidden_size=128, num_hidden_layers=2)
    large = LlamaConfig(hidden_size=4096, num_hidden_layers=32)
    assert tokens_at_once(small, cpu) > 50_000
    assert tokens_at_once(large, cpu) == 1024
    assert tokens_at_once(large, torch.device("cuda")) == 16_384
