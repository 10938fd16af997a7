"""`fairlead.SFTTrainer` is TRL's trainer with another forward; nothing else differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
import trl
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoTokenizer

from fairlead import SFTTrainer
from tests.support.preference_rows import STEP, llama
from tests.support.sft_rows import ROWS, TEXTS, TURNS, sft_trainer_of
from tests.support.twins import KNOWN

FEW = 60  # tokens; the batch has some 230 without padding


def assert_same_step(ours: Any, theirs: Any, start: dict[str, torch.Tensor]) -> None:
    """After one step of plain gradient descent: equal logs, and equal gradients by what the weights have moved."""
    logged, their_log = ours.state.log_history[0], theirs.state.log_history[0]
    assert logged.keys() == their_log.keys()
    assert {"loss", "grad_norm", "entropy", "mean_token_accuracy", "num_tokens"} <= logged.keys()
    assert logged == pytest.approx(their_log, abs=1e-4, rel=1e-4)
    mine, their = ours.model.state_dict(), theirs.model.state_dict()
    moved = 0
    for name, before in start.items():
        their_move = their[name] - before
        assert float((mine[name] - before - their_move).norm()) <= 1e-3 * float(their_move.norm()) + 1e-6, name
        moved += bool(their_move.norm() > 1e-5)
    assert moved


def a_step_of_both(tiny_model: Path, out: Path, model: Any, at_once: int, **settings: Any) -> tuple[Any, Any]:
    """Both trainers after one step, compared; `model` makes the same one each time."""
    extra = settings.pop("extra", {})
    trainers: list[Any] = []
    for kind, more in ((SFTTrainer, {"tokens_at_once": at_once}), (trl.SFTTrainer, {})):
        trainer = sft_trainer_of(
            kind, tiny_model, out / kind.__module__, model=model(), extra={**extra, **more}, **{**STEP, **settings}
        )
        start = {name: value.clone() for name, value in trainer.model.state_dict().items()}
        trainer.train()
        trainers.append(trainer)
    ours, theirs = trainers
    assert_same_step(ours, theirs, start)
    return ours, theirs


def sum_of_squares(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    loss: torch.Tensor = outputs.logits[labels != -100].square().sum() / num_items_in_batch
    return loss


@pytest.mark.parametrize("at_once", [10_000, FEW], ids=["whole", "in microbatches"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"completion_only_loss": False},
        {"rows": TEXTS},
        {"rows": TURNS, "assistant_only_loss": True},
        {"rows": TURNS},
        {"gradient_accumulation_steps": 3, "per_device_train_batch_size": 2},
        {"gradient_checkpointing": True},
        {"max_length": 45},
        {"max_length": 20, "truncation_mode": "keep_end"},
        {"loss_type": "dft"},
    ],
    ids=lambda settings: str({key: "…" if key == "rows" else value for key, value in settings.items()}),
)
def test_losses_metrics_and_gradients_are_trls(
    tiny_model: Path, tmp_path: Path, settings: dict[str, Any], at_once: int
) -> None:
    ours, _ = a_step_of_both(tiny_model, tmp_path, llama, at_once, **settings)
    assert ours.packed.reason is None


@pytest.mark.parametrize(
    "settings",
    [{"label_smoothing_factor": 0.1}, {"extra": {"compute_loss_func": sum_of_squares}}],
    ids=["label smoothing", "a loss of one's own"],
)
def test_losses_of_the_logits_are_left_to_trl(tiny_model: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    a_step_of_both(tiny_model, tmp_path, llama, 1, **settings)


def token_rows() -> list[dict[str, list[int]]]:
    """Eight tokenised rows for a vocabulary of 97, some of which begin alike, two of them the same."""
    draw = torch.Generator().manual_seed(0)

    def text(length: int) -> list[int]:
        return torch.randint(3, 97, (length,), generator=draw).tolist()

    start, short = text(18), text(4)
    pairs = [(start + text(3), text(4)), (start + text(5), text(2)), (short, text(7)), (start, text(3)), (start, [9])]
    pairs += [pairs[0], (text(30), text(5)), (short, text(1))]
    return [
        {"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer, "attention_mask": [1] * 40}
        for prompt, answer in pairs
    ]


@pytest.mark.parametrize("name", KNOWN)
def test_every_known_architecture_trains_as_with_trl(tiny_model: Path, tmp_path: Path, name: str) -> None:
    def model() -> Any:
        torch.manual_seed(0)
        made = hf.AutoModelForCausalLM.from_config(KNOWN[name]())
        assert made.generation_config is not None
        return made

    rows = [{key: row[key] for key in ("input_ids", "labels")} for row in token_rows()]
    ours, _ = a_step_of_both(tiny_model, tmp_path, model, 30, rows=rows, per_device_train_batch_size=8)
    assert ours.packed.reason is None
    assert ours.aux_loss_enabled == (name in ("mixtral", "qwen3_moe"))


@pytest.mark.parametrize("how", ["full", "new adapter", "adapter"])
def test_a_training_ends_in_trls_weights_with_trls_evaluations(tiny_model: Path, tmp_path: Path, how: str) -> None:
    """Twelve steps with Adam in shuffled batches of two; every evaluation has TRL's loss, accuracy and entropy."""
    ends, logs = [], []
    lora = LoraConfig(target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")
    for kind in (SFTTrainer, trl.SFTTrainer):
        model: Any = llama()
        if how == "adapter":
            torch.manual_seed(0)
            model = get_peft_model(model, lora)
        trainer = sft_trainer_of(
            kind, tiny_model, tmp_path / kind.__module__, model=model, max_steps=12, per_device_train_batch_size=2,
            eval_strategy="steps", eval_steps=4,
            extra={"eval_dataset": Dataset.from_list(ROWS[1:]), "peft_config": lora if how == "new adapter" else None},
        )  # fmt: skip
        trainer.train()
        ends.append({name: p.detach() for name, p in trainer.model.named_parameters() if p.requires_grad})
        logs.append([{k: v for k, v in row.items() if "runtime" not in k and "per_second" not in k}
                     for row in trainer.state.log_history if "train_loss" not in row])  # fmt: skip
    for name, mine in ends[0].items():
        torch.testing.assert_close(mine, ends[1][name], atol=1e-4, rtol=1e-3, msg=name)
    assert sum("eval_mean_token_accuracy" in row for row in logs[0]) == 3
    for row, other in zip(*logs, strict=True):
        assert row == pytest.approx(other, abs=2e-3, rel=1e-3)


def test_a_resumed_training_has_the_figures_of_an_undisturbed_one(tiny_model: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "max_steps": 6, "per_device_train_batch_size": 2, "save_strategy": "steps", "save_steps": 3,
        "extra": {"tokens_at_once": FEW},
    }  # fmt: skip
    whole = sft_trainer_of(SFTTrainer, tiny_model, tmp_path, **settings)
    whole.train()
    resumed = sft_trainer_of(SFTTrainer, tiny_model, tmp_path, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    losses = [[row["loss"] for row in trainer.state.log_history if "loss" in row] for trainer in (whole, resumed)]
    assert len(losses[0]) == 6
    assert losses[0] == losses[1]
    for name, parameter in whole.model.named_parameters():
        assert torch.equal(parameter, resumed.model.get_parameter(name)), name


def test_beginnings_are_computed_once_and_the_head_on_scored_tokens(tiny_model: Path, tmp_path: Path) -> None:
    trainer = sft_trainer_of(SFTTrainer, tiny_model, tmp_path, extra={"tokens_at_once": 10_000}, **STEP)
    computed: list[int] = []
    trainer.model.model.embed_tokens.register_forward_hook(lambda module, inputs, out: computed.append(out.shape[1]))
    trainer.train()
    rows = [trainer.train_dataset[n]["input_ids"] for n in range(len(ROWS))]
    beginnings = {tuple(row[:end]) for row in rows for end in range(1, len(row))}
    assert computed == [len(beginnings)]
    assert computed[0] < sum(map(len, rows)) / 2


def test_it_runs_as_trls_documentation_shows(tiny_model: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """A model's name and rows, nothing else."""
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path / "model")
    llama().save_pretrained(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    trainer = SFTTrainer(model=str(tmp_path / "model"), train_dataset=Dataset.from_list(TEXTS))
    trainer.train()
    assert trainer.state.global_step == 3
    assert trainer.args.output_dir.endswith("model-SFT")


def test_bfloat16_autocast_is_as_near_to_float32_as_trls(tiny_model: Path, tmp_path: Path) -> None:
    def loss(kind: Any, bf16: bool) -> float:
        trainer = sft_trainer_of(kind, tiny_model, tmp_path / f"{kind.__module__}{bf16}", bf16=bf16, **STEP)
        trainer.train()
        return float(trainer.state.log_history[0]["loss"])

    exact = loss(trl.SFTTrainer, False)
    assert abs(loss(SFTTrainer, True) - exact) <= max(2 * abs(loss(trl.SFTTrainer, True) - exact), 0.01)
