"""`fairlead.DPOTrainer` is TRL's trainer with another forward and another reference pass; nothing else differs."""

from __future__ import annotations

import json
import logging
import math
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trl
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoTokenizer

from fairlead import DPOTrainer
from fairlead.config.training import LOSSES
from fairlead.errors import ReferenceMismatchError, TrainingError
from fairlead.training.dpo_trainer.prompt_sampler import prompt_batches
from tests.support.preference_rows import ROWS, STEP, llama, trainer_of
from tests.support.processes import Forked

SETTINGS = [
    *({"loss_type": [loss], "label_smoothing": 0.1} for loss in LOSSES),
    {"loss_type": ["sigmoid", "sft"], "loss_weights": [0.7, 0.3]},
    {"ld_alpha": 0.3},
    *({"f_divergence_type": kind} for kind in ("forward_kl", "js_divergence", "alpha_divergence")),
    {"use_weighting": True},
    {"truncation_mode": "keep_end", "max_length": 12},
    {"max_length": 20},
    {"precompute_ref_log_probs": True},
    {"precompute_ref_log_probs": True, "ld_alpha": 0.3},
]


def first_loss(trainer: Any) -> tuple[float, dict[str, float]]:
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(len(trainer.train_dataset))])
    loss = trainer.compute_loss(trainer.model, trainer._prepare_inputs(batch))
    loss.backward()
    return loss.item(), {key: values[-1] for key, values in trainer._metrics["train"].items()}


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: json.dumps(s))
def test_losses_metrics_and_gradients_are_trls(tiny_model: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    """The policy differs from the reference, so that every term counts."""
    calls = []
    for kind in (DPOTrainer, trl.DPOTrainer):
        extra = {} if settings.get("precompute_ref_log_probs") else {"ref_model": llama(1)}
        trainer = trainer_of(kind, tiny_model, tmp_path, extra=extra, **settings)
        if settings.get("precompute_ref_log_probs"):
            with torch.no_grad():
                trainer.model.lm_head.weight.mul_(1.3)
        calls.append((trainer, *first_loss(trainer)))
    (ours, loss, metrics), (theirs, their_loss, their_metrics) = calls
    assert ours.packed.reason is None
    assert loss == pytest.approx(their_loss, abs=2e-4)
    assert metrics.keys() == their_metrics.keys()
    assert metrics == pytest.approx(their_metrics, abs=2e-3, rel=1e-4)
    for (name, mine), other in zip(ours.model.named_parameters(), theirs.model.named_parameters(), strict=True):
        if other[1].grad is not None and other[1].grad.norm() > 1e-5:
            assert float((mine.grad - other[1].grad).norm() / other[1].grad.norm()) < 1e-4, name


@pytest.mark.parametrize("how", ["full", "full, precomputed", "new adapter", "adapter", "checkpointing"])
def test_a_training_ends_in_trls_weights(tiny_model: Path, tmp_path: Path, how: str) -> None:
    ends = []
    for kind in (DPOTrainer, trl.DPOTrainer):
        model: Any = llama()
        lora = LoraConfig(target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        extra: dict[str, Any] = {"peft_config": lora} if how == "new adapter" else {}
        if how == "adapter":
            torch.manual_seed(0)
            model = get_peft_model(model, lora)
        if how == "full":
            extra["ref_model"] = llama()
        trainer = trainer_of(
            kind, tiny_model, tmp_path / kind.__module__, model=model, extra=extra, max_steps=12,
            per_device_train_batch_size=2, gradient_checkpointing=how == "checkpointing",
            precompute_ref_log_probs=how in ("full, precomputed", "checkpointing"),
        )  # fmt: skip
        trainer.train()
        ends.append({name: p.detach() for name, p in trainer.model.named_parameters() if p.requires_grad})
        logs = [row for row in trainer.state.log_history if "rewards/margins" in row]
        assert len(logs) == 12
    for name, mine in ends[0].items():
        torch.testing.assert_close(mine, ends[1][name], atol=1e-4, rtol=1e-3, msg=name)


def test_it_runs_as_trls_documentation_shows(tiny_model: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """A model's name and rows with implicit prompts in conversational form, nothing else."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }} {% endfor %}"
    tokenizer.save_pretrained(tmp_path / "model")
    llama().save_pretrained(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    user = {"role": "user", "content": "the disk"}
    rows = [
        {side: [user, {"role": "assistant", "content": text}] for side, text in (("chosen", a), ("rejected", b))}
        for a, b in (("is full", "is high"), ("full of high", "severity"))
    ]
    from fairlead import DPOTrainer

    trainer = DPOTrainer(model=str(tmp_path / "model"), train_dataset=Dataset.from_list(rows))
    trainer.train()
    assert trainer.state.global_step == 3


# The reference


def test_nothing_but_weights_and_rows_asks_for_another_reference_pass(tiny_model: Path, tmp_path: Path) -> None:
    first = trainer_of(DPOTrainer, tiny_model, tmp_path / "a", precompute_ref_log_probs=True)
    rows = 7  # eight rows of four pairs, one of them twice
    assert first.reference_rows == {"computed": rows, "known": 0}
    lora = LoraConfig(r=3, target_modules=["q_proj"], task_type="CAUSAL_LM")
    changes: dict[str, Any] = {"beta": 0.7, "learning_rate": 1e-5, "seed": 9, "per_device_train_batch_size": 2}
    again = trainer_of(
        DPOTrainer, tiny_model, tmp_path / "b", precompute_ref_log_probs=True, extra={"peft_config": lora}, **changes
    )
    assert again.reference == first.reference
    assert again.reference_rows == {"computed": 0, "known": rows}
    assert again.train_dataset["ref_chosen_logps"] == first.train_dataset["ref_chosen_logps"]
    more = [*ROWS, {"prompt": "severity", "chosen": " the", "rejected": " disk"}]
    assert trainer_of(
        DPOTrainer, tiny_model, tmp_path / "c", precompute_ref_log_probs=True, rows=more
    ).reference_rows == {"computed": 2, "known": rows}
    other = trainer_of(DPOTrainer, tiny_model, tmp_path / "d", precompute_ref_log_probs=True, model=llama(1))
    assert other.reference != first.reference
    assert other.reference_rows == {"computed": rows, "known": 0}


def test_a_fresh_adapter_has_its_base_as_reference_and_a_trained_one_itself(tiny_model: Path, tmp_path: Path) -> None:
    def reference_of(name: str, *, seed: int = 0, **lora: Any) -> DPOTrainer:
        torch.manual_seed(seed)
        model = get_peft_model(llama(), LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM", **lora))
        trainer: DPOTrainer = trainer_of(
            DPOTrainer, tiny_model, tmp_path / name, model=model, precompute_ref_log_probs=True
        )
        return trainer

    base = trainer_of(DPOTrainer, tiny_model, tmp_path / "base", precompute_ref_log_probs=True)
    fresh = [reference_of("a", r=2), reference_of("b", r=4, seed=7)]
    assert {trainer.reference for trainer in fresh} == {base.reference}
    assert [trainer.reference_rows["computed"] for trainer in fresh] == [0, 0]
    for trainer in fresh:
        trainer.check_policy_is_reference()
    for settings in ({"init_lora_weights": False}, {"use_dora": True}, {"modules_to_save": ["lm_head"]}):
        other = reference_of("-".join(settings), **settings)
        assert other.reference != base.reference, settings
        assert other.reference_rows["computed"] == 7, settings
    with torch.no_grad():
        fresh[0].model.get_parameter("base_model.model.model.layers.0.self_attn.q_proj.lora_B.ref.weight")[0, 0] = 1e-3
    with pytest.raises(ReferenceMismatchError, match="changed in memory"):
        fresh[0].train()


def test_trl_hashes_no_weights_for_a_cache_that_is_not_used(tiny_model: Path, tmp_path: Path) -> None:
    trainer = trainer_of(DPOTrainer, tiny_model, tmp_path / "ours", precompute_ref_log_probs=True)
    assert trainer._precompute_model_hash is None
    theirs = trainer_of(trl.DPOTrainer, tiny_model, tmp_path / "trls", precompute_ref_log_probs=True)
    assert theirs._precompute_model_hash


def test_a_killed_reference_pass_continues(tiny_model: Path, tmp_path: Path) -> None:
    def killed_after_one(batches: Sequence[Any], what: str) -> Iterator[Any]:
        yield batches[0]
        raise KeyboardInterrupt

    settings: dict[str, Any] = {"precompute_ref_log_probs": True, "per_device_train_batch_size": 1}
    with pytest.raises(KeyboardInterrupt):
        trainer_of(DPOTrainer, tiny_model, tmp_path, extra={"reference_progress": killed_after_one}, **settings)
    trainer = trainer_of(DPOTrainer, tiny_model, tmp_path, **settings)
    assert trainer.reference_rows == {"computed": 5, "known": 2}
    trained_whole = trainer_of(
        DPOTrainer, tiny_model, tmp_path, extra={"reference_cache": tmp_path / "new"}, **settings
    )
    for column in ("ref_chosen_logps", "ref_rejected_logps"):
        assert trainer.train_dataset[column] == pytest.approx(trained_whole.train_dataset[column], abs=1e-4)


def test_the_reference_is_computed_without_dropout(tiny_model: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    lora = LoraConfig(target_modules=["q_proj"], lora_dropout=0.5, init_lora_weights=False, task_type="CAUSAL_LM")
    model = get_peft_model(llama(), lora)
    trainer = trainer_of(
        DPOTrainer, tiny_model, tmp_path, model=model, precompute_ref_log_probs=True, disable_dropout=False
    )
    trainer.model.train()
    trainer.check_policy_is_reference()
    assert trainer.model.training  # it is left as it was


def test_the_reference_is_the_model_in_memory_not_the_one_on_disk(tiny_model: Path, tmp_path: Path) -> None:
    model = llama()
    model.save_pretrained(tmp_path / "model")
    model = type(model).from_pretrained(tmp_path / "model")
    with torch.no_grad():
        model.lm_head.weight.mul_(1.5)
    trainer = trainer_of(DPOTrainer, tiny_model, tmp_path / "out", model=model)
    trainer.check_policy_is_reference()
    trainer.model.train()
    loss, metrics = first_loss(trainer)
    assert loss == pytest.approx(math.log(2), abs=1e-5)
    assert metrics["rewards/chosen"] == pytest.approx(0, abs=1e-5)


def test_a_policy_changed_before_the_first_step_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    trainer = trainer_of(DPOTrainer, tiny_model, tmp_path, precompute_ref_log_probs=True)
    reference = trainer.reference
    with torch.no_grad():
        trainer.model.lm_head.weight.mul_(1.01)
    with pytest.raises(ReferenceMismatchError, match=rf"{reference} was expected, [0-9a-f]{{16}} is there"):
        trainer.train()


def test_a_reference_changed_on_the_way_is_refused_at_evaluation(tiny_model: Path, tmp_path: Path) -> None:
    rows = Dataset.from_list(ROWS[:2])
    trainer = trainer_of(DPOTrainer, tiny_model, tmp_path, max_steps=1, extra={"eval_dataset": rows})
    trainer.train()
    trainer.evaluate()
    with torch.no_grad():
        trainer.ref_model.lm_head.weight[0, 0] += 1e-3
    with pytest.raises(ReferenceMismatchError, match="changed in memory"):
        trainer.evaluate()


def test_a_checkpoint_of_another_reference_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "max_steps": 2, "save_strategy": "steps", "save_steps": 1, "precompute_ref_log_probs": True,
    }  # fmt: skip
    first = trainer_of(DPOTrainer, tiny_model, tmp_path, **settings)
    first.train()
    trainer_of(DPOTrainer, tiny_model, tmp_path, **settings).train(
        resume_from_checkpoint=str(tmp_path / "checkpoint-1")
    )
    other = trainer_of(DPOTrainer, tiny_model, tmp_path, model=llama(1), **settings)
    with pytest.raises(ReferenceMismatchError, match=rf"{first.reference} was expected, {other.reference} is there"):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_a_reference_of_ones_own_is_respected(tiny_model: Path, tmp_path: Path) -> None:
    """Only a reference that nobody named has to be the start."""
    trainer = trainer_of(DPOTrainer, tiny_model, tmp_path, max_steps=1, extra={"ref_model": llama(1)})
    trainer.train()
    assert trainer.state.log_history[0]["loss"] != pytest.approx(math.log(2), abs=1e-2)


# The rows


CUT_TO_EQUAL = {"prompt": "the", "chosen": " disk" * 30 + " is", "rejected": " disk" * 30 + " full"}


def test_pairs_that_truncation_empties_or_equals_are_dropped_and_named(tiny_model: Path, tmp_path: Path) -> None:
    rows = [*ROWS, CUT_TO_EQUAL]
    with pytest.raises(TrainingError, match=r"1 of 5 pairs are empty or equal once cut to 24 tokens \(rows 4\)"):
        trainer_of(DPOTrainer, tiny_model, tmp_path, rows=rows, max_length=24, extra={"max_dropped": 0.01})
    trainer = trainer_of(DPOTrainer, tiny_model, tmp_path, rows=rows, max_length=24, extra={"max_dropped": 0.2})
    assert trainer.dropped == {"train": [4]}
    assert len(trainer.train_dataset) == 4


def test_without_a_limit_dropped_pairs_are_a_warning_as_long_as_some_are_left(
    tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As with TRL's trainer, which drops such pairs whatever their share."""
    rows = [*ROWS, CUT_TO_EQUAL, CUT_TO_EQUAL]
    with caplog.at_level(logging.WARNING):
        trainer = trainer_of(DPOTrainer, tiny_model, tmp_path, rows=rows, max_length=24, **STEP)
    assert trainer.dropped == {"train": [4, 5]}
    dropped = [record.message for record in caplog.records if "dropped" in record.message]
    assert dropped == ["2 of 6 pairs are empty or equal once cut to 24 tokens (rows 4, 5): dropped"]
    trainer.train()
    assert trainer.state.global_step == 1
    with pytest.raises(TrainingError, match=r"2 of 2 pairs are empty or equal .* none is left"):
        trainer_of(DPOTrainer, tiny_model, tmp_path, rows=rows[4:], max_length=24)


def test_pairs_of_a_prompt_share_a_batch_as_far_as_they_fit() -> None:
    prompts = [0, 1, 2, 0, 1, 2, 0, 3, 4, 4, 4, 4, 4, 4, 4, 4]
    for seed in range(20):
        order = prompt_batches(prompts, 4, np.random.default_rng(seed))
        assert sorted(order) == list(range(16))
        batches = [sorted(prompts[row] for row in order[i : i + 4]) for i in range(0, 16, 4)]
        assert sorted(batches) == [[0, 0, 0, 3], [1, 1, 2, 2], [4] * 4, [4] * 4]
    assert order != prompt_batches(prompts, 4, np.random.default_rng(1))


def test_batch_by_prompt_computes_each_prompt_once(tiny_model: Path, tmp_path: Path) -> None:
    """Eight prompts with four pairs each: by rows a batch holds many prompts, by prompt one."""
    texts = [f" disk {n}" for n in range(5)]
    rows = [
        {"prompt": f"{p} the database", "chosen": texts[i], "rejected": texts[i + 1]}
        for i in range(4)
        for p in range(8)
    ]
    computed = {}
    for way in ("row", "prompt"):
        trainer = trainer_of(DPOTrainer, tiny_model, tmp_path, rows=rows, extra={"batch_by": way}, num_train_epochs=1)
        tokens: list[int] = []

        def count(module: Any, inputs: Any, output: Any, seen: list[int] = tokens) -> None:
            seen.extend([output.shape[1]] * module.training)  # the self-test runs in evaluation mode

        trainer.model.model.embed_tokens.register_forward_hook(count)
        trainer.train()
        computed[way] = sum(tokens)
        assert trainer.state.global_step == 8
    assert computed["prompt"] < 0.6 * computed["row"]


# Several processes

PLAIN_SGD: dict[str, Any] = {"max_steps": 3, "learning_rate": 1e-2, "optim": "sgd", "max_grad_norm": 1e9}


def train_in_a_group(tiny_model: Path, out: Path, settings: dict[str, Any]) -> None:
    """What each process of a group does, given the variables that torchrun sets."""
    torch.set_num_threads(1)
    trainer = trainer_of(DPOTrainer, tiny_model, out / "run", **PLAIN_SGD, **settings)
    trainer.train()
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if trainer.accelerator.is_main_process:
        torch.save(dict(state), out / "weights.pt")
        print("reason", trainer.packed.reason)
    trainer.accelerator.end_training()


def trained_by_two(tiny_model: Path, out: Path, settings: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The weights that two processes end in, and what the first of them printed."""
    out.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    group |= {**os.environ, "ACCELERATE_USE_CPU": "true"}
    processes = [
        Forked(train_in_a_group, tiny_model, out, settings, env={**group, "RANK": rank, "LOCAL_RANK": rank})
        for rank in ("0", "1")
    ]
    ends = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "".join(errors[-3000:] for _, errors in ends)
    return torch.load(out / "weights.pt"), ends[0][0]


def trained_alone(tiny_model: Path, out: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The weights that one process ends in, with the worker's settings."""
    trainer = trainer_of(DPOTrainer, tiny_model, out / "run", **PLAIN_SGD, **settings)
    trainer.train()
    return trainer.accelerator.get_state_dict(trainer.model_wrapped)


def assert_close(mine: dict[str, Any], single: dict[str, Any]) -> None:
    assert mine.keys() == single.keys()
    start = llama().state_dict()
    assert any(not torch.allclose(start[name], value, atol=1e-4) for name, value in single.items())
    for name, value in single.items():
        torch.testing.assert_close(mine[name].float(), value.float(), atol=2e-5, rtol=1e-3, msg=name)


def test_two_processes_train_as_one(tiny_model: Path, tmp_path: Path) -> None:
    """Gradients over two processes with gloo: the same weights after three steps of plain SGD."""
    rows = {"precompute_ref_log_probs": True}
    single = trained_alone(tiny_model, tmp_path / "one", {"per_device_train_batch_size": 4, **rows})
    double, output = trained_by_two(tiny_model, tmp_path / "two", {"per_device_train_batch_size": 2, **rows})
    assert "reason None" in output
    assert_close(double, single)


@pytest.mark.parametrize("precomputed", [False, True])
def test_fsdp_wraps_it(tiny_model: Path, tmp_path: Path, precomputed: bool) -> None:
    """Also with a reference that no folder holds: the model in memory is it."""
    reference = {"precompute_ref_log_probs": precomputed}
    single = trained_alone(tiny_model, tmp_path / "one", {"per_device_train_batch_size": 4, **reference})
    wrapped = {"fsdp": True, "fsdp_config": {"version": 2, "transformer_layer_cls_to_wrap": ["LlamaDecoderLayer"]}}
    settings = {"per_device_train_batch_size": 2, **reference, **wrapped}
    sharded, output = trained_by_two(tiny_model, tmp_path / "two", settings)
    assert "reason None" in output
    assert_close(sharded, single)
