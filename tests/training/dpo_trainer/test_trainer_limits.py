"""What could make the trainer differ from TRL's in silence: odd models, odd adapters, odd settings, odd rows."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import trl
from datasets import Dataset
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, MixtralConfig, PreTrainedModel

from fairlead import DPOTrainer
from fairlead.errors import ReferenceMismatchError
from tests.support.preference_rows import ROWS, STEP, llama, trainer_of

DYNAMIC = {"rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10_000.0}}


def mixtral() -> PreTrainedModel:
    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=4, output_router_logits=True, router_aux_loss_coef=0.02,
        initializer_range=0.2, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model


def with_prompt_tuning() -> PeftModel:
    torch.manual_seed(0)
    return get_peft_model(llama(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))


def assert_a_step_is_trls(tiny_model: Path, tmp_path: Path, model: Any, **settings: Any) -> DPOTrainer:
    """A first step of both, with the reference as each makes it; returns Fairlead's trainer."""
    steps = []
    for kind, extra in ((DPOTrainer, {"tokens_at_once": 20}), (trl.DPOTrainer, {})):
        trainer = trainer_of(
            kind, tiny_model, tmp_path / kind.__module__, model=model(), extra=extra, **STEP, **settings
        )
        trainer.train()
        steps.append(trainer)
    ours, theirs = steps
    logs = [dict(trainer.state.log_history[0]) for trainer in steps]
    for log in logs:
        log.pop("rewards/accuracies")  # the sign of a difference that is 0 but for rounding
    assert logs[0] == pytest.approx(logs[1], abs=1e-4, rel=1e-4)
    for (name, mine), other in zip(ours.model.named_parameters(), theirs.model.parameters(), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-4, msg=name)
    result: DPOTrainer = ours
    return result


# Models and adapters


def test_a_mixture_of_experts_trains_with_its_router_loss(tiny_model: Path, tmp_path: Path) -> None:
    trainer = assert_a_step_is_trls(tiny_model, tmp_path, mixtral, precompute_ref_log_probs=True)
    assert trainer.packed is not None
    assert trainer.packed.reason is None
    assert trainer.aux_loss_enabled


def test_frequencies_that_depend_on_the_longest_row_are_those_of_the_batch(tiny_model: Path, tmp_path: Path) -> None:
    def model() -> PreTrainedModel:
        return llama(max_position_embeddings=12, **DYNAMIC)

    trainer = assert_a_step_is_trls(tiny_model, tmp_path, model, precompute_ref_log_probs=True)
    assert trainer.packed is not None
    assert trainer.packed.length_dependent
    assert trainer.reference_rows == {"computed": 0, "known": 0}  # a row alone has no value to be kept


def test_prompt_learning_is_left_to_trl_whole(tiny_model: Path, tmp_path: Path, caplog: Any) -> None:
    with caplog.at_level(logging.WARNING):
        trainer = assert_a_step_is_trls(tiny_model, tmp_path, with_prompt_tuning)
    assert trainer.packed is not None
    assert "tokens of its own" in str(trainer.packed.reason)
    assert sum("TRL's own forward" in record.message for record in caplog.records) == 1


def test_neftune_is_left_to_trl(tiny_model: Path, tmp_path: Path) -> None:
    trainer = trainer_of(DPOTrainer, tiny_model, tmp_path, neftune_noise_alpha=5.0)
    assert "NEFTune" in trainer.packed.reason


# The reference


def test_a_write_past_the_version_counter_is_seen(tiny_model: Path, tmp_path: Path) -> None:
    """`tensor.data` is how PEFT merges an adapter into its base."""
    trainer = trainer_of(DPOTrainer, tiny_model, tmp_path, precompute_ref_log_probs=True)
    trainer.model.lm_head.weight.data += 1e-3
    with pytest.raises(ReferenceMismatchError, match="changed in memory"):
        trainer.train()


def test_an_adapter_beside_the_policys_is_watched_and_a_trained_bias_is_no_fault(
    tiny_model: Path, tmp_path: Path
) -> None:
    def trained(name: str, model: Any, **more: Any) -> Any:
        trainer = trainer_of(
            DPOTrainer, tiny_model, tmp_path / name, model=model, precompute_ref_log_probs=True,
            extra={"eval_dataset": Dataset.from_list(ROWS[:2]), **more}, **STEP,
        )  # fmt: skip
        trainer.train()
        return trainer

    lora: dict[str, Any] = {"target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
    trained("bias", llama(attention_bias=True), peft_config=LoraConfig(**lora, bias="all")).evaluate()
    beside = trained("beside", get_peft_model(llama(), LoraConfig(**lora, init_lora_weights=False)))
    beside.evaluate()
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.ref.weight"
    beside.model.get_parameter(name).data += 1e-3
    with pytest.raises(ReferenceMismatchError, match="changed in memory"):
        beside.evaluate()


def test_a_checkpoint_whose_callbacks_are_restored_goes_on(tiny_model: Path, tmp_path: Path) -> None:
    settings = {**STEP, "max_steps": 2, "save_strategy": "steps", "save_steps": 1, "precompute_ref_log_probs": True}
    trainer_of(DPOTrainer, tiny_model, tmp_path, **settings).train()
    again = trainer_of(DPOTrainer, tiny_model, tmp_path, restore_callback_states_from_checkpoint=True, **settings)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert again.state.global_step == 2
    settings["restore_callback_states_from_checkpoint"] = True
    other = trainer_of(DPOTrainer, tiny_model, tmp_path, model=llama(1), **settings)
    with pytest.raises(ReferenceMismatchError, match="another reference"):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


# Rows


def test_batches_by_prompt_are_those_of_one_process(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(DPOTrainer, tiny_model, tmp_path, rows=ROWS * 4, extra={"batch_by": "prompt"})
    order = list(trainer._get_train_sampler())
    monkeypatch.setattr(type(trainer.accelerator), "num_processes", 2)
    assert list(trainer._get_train_sampler()) == order


MERGED = [
    {"prompt": "the dis", "chosen": "k is full", "rejected": "k"},
    {"prompt": "severity", "chosen": ": high", "rejected": "y is high"},
]
LONG = [{"prompt": "the disk of the database " * 8, "chosen": " is full", "rejected": " is not the severity"}, *ROWS]


@pytest.mark.parametrize(
    ("rows", "settings"),
    [
        pytest.param(MERGED, {}, id="a boundary that merges"),
        pytest.param(LONG, {"max_length": None}, id="a row beyond the model's context"),
        pytest.param(LONG, {"max_length": 48}, id="a row that is cut"),
        pytest.param(
            [*ROWS, {"prompt": "the", "chosen": " disk is full", "rejected": " disk is high"}], {}, id="a common start"
        ),
    ],
)
@pytest.mark.parametrize("reference", [None, 1], ids=["from the reference", "far from the reference"])
def test_odd_rows_train_as_trls(
    tiny_model: Path, tmp_path: Path, rows: list[dict[str, str]], settings: dict[str, Any], reference: int | None
) -> None:
    if rows is MERGED:
        tokenizer = AutoTokenizer.from_pretrained(tiny_model)
        whole = [tokenizer(row["prompt"] + row["chosen"])["input_ids"] for row in rows]
        alone = [tokenizer(row["prompt"])["input_ids"] for row in rows]
        assert any(ids[: len(prompt)] != prompt for ids, prompt in zip(whole, alone, strict=True))
    logs = []
    for kind in (DPOTrainer, trl.DPOTrainer):
        trainer = trainer_of(
            kind, tiny_model, tmp_path / kind.__module__, rows=rows, model=llama(max_position_embeddings=32),
            extra={} if reference is None else {"ref_model": llama(reference, max_position_embeddings=32)},
            per_device_train_batch_size=8, precompute_ref_log_probs=True, **STEP, **settings,
        )  # fmt: skip
        trainer.train()
        logs.append(dict(trainer.state.log_history[0]))
    if reference is None:
        for log in logs:
            log.pop("rewards/accuracies")  # the sign of margins that are 0 but for rounding
    assert logs[0] == pytest.approx(logs[1], abs=1e-4, rel=1e-4)


def test_a_prompt_that_fills_the_context_is_dropped_and_the_others_train(tiny_model: Path, tmp_path: Path) -> None:
    trainer = trainer_of(DPOTrainer, tiny_model, tmp_path, rows=LONG, max_length=24, **STEP)
    assert trainer.dropped == {"train": [0]}
    trainer.train()
    assert trainer.state.global_step == 1
