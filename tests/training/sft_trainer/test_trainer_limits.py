"""Where the packed forward is not exact, or TRL packs by itself, TRL's own forward trains and the reason is told."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
import trl
from peft import PromptTuningConfig

from fairlead import SFTTrainer
from fairlead.errors import ConfigError
from fairlead.training.sft_trainer.row_microbatches import split
from fairlead.training.shared_prefix.layout import build_layout
from tests.support.preference_rows import llama
from tests.support.sft_rows import INSTRUCTION, ROWS, TEXTS, sft_trainer_of
from tests.training.sft_trainer.test_trainer import FEW, a_step_of_both


def mamba() -> Any:
    torch.manual_seed(0)
    return hf.AutoModelForCausalLM.from_config(
        hf.MambaConfig(vocab_size=300, hidden_size=32, num_hidden_layers=2, state_size=4, pad_token_id=0)
    )


@pytest.mark.parametrize(
    ("model", "settings", "reason"),
    [
        (
            llama,
            {"rows": TEXTS, "packing": True, "packing_strategy": "wrapped", "max_length": 32},
            "TRL packs the rows",
        ),
        (llama, {"padding_free": True, "max_length": None}, "TRL packs the rows"),
        (
            llama,
            {"extra": {"peft_config": PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)}},
            "tokens of its own",
        ),
    ],
    ids=["packing", "padding_free", "prompt tuning"],
)
def test_what_is_left_to_trl_trains_as_trls_and_says_why_once(
    tiny_model: Path, tmp_path: Path, caplog: Any, model: Any, settings: dict[str, Any], reason: str
) -> None:
    with caplog.at_level(logging.WARNING):
        ours, _ = a_step_of_both(tiny_model, tmp_path, model, 10, **settings)
    assert reason in ours.packed.reason
    assert sum("TRL's own forward" in record.message for record in caplog.records) == 1


def test_a_recurrent_model_trains_row_by_row_as_trl_trains_it(tiny_model: Path, tmp_path: Path) -> None:
    ours, _ = a_step_of_both(tiny_model, tmp_path, mamba, 10)
    assert (ours.packed.way, ours.packed.reason) == ("rows", None)


def test_neftune_is_left_to_trl(tiny_model: Path, tmp_path: Path) -> None:
    trainer = sft_trainer_of(SFTTrainer, tiny_model, tmp_path, neftune_noise_alpha=5.0)
    assert "NEFTune" in trainer.packed.reason


def test_frequencies_that_depend_on_the_longest_row_are_those_of_the_batch(tiny_model: Path, tmp_path: Path) -> None:
    rope = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10_000.0}
    ours, _ = a_step_of_both(tiny_model, tmp_path, lambda: llama(max_position_embeddings=12, rope_parameters=rope), 10)
    assert ours.packed.length_dependent


def test_microbatches_hold_every_row_once_and_share_what_rows_begin_with(tiny_model: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"{INSTRUCTION * 2}{n} the disk", "completion": f" is {n}"} for n in range(9)]
    trainer = sft_trainer_of(SFTTrainer, tiny_model, tmp_path, rows=[*rows, *ROWS])
    batch = trainer.data_collator([trainer.train_dataset[n] for n in range(len(rows) + len(ROWS))])

    def rows_of(inputs: dict[str, Any]) -> list[tuple[Any, ...]]:
        return [
            (ids[mask.bool()].tolist(), labels[mask.bool()].tolist())
            for ids, mask, labels in zip(inputs["input_ids"], inputs["attention_mask"], inputs["labels"], strict=True)
        ]

    microbatches = split(batch, FEW)
    assert sorted(row for part in microbatches for row in rows_of(part.inputs)) == sorted(rows_of(batch))
    assert sum(part.weight for part in microbatches) == pytest.approx(1)
    computed = [build_layout(**part.inputs).input_ids.numel() for part in microbatches]
    assert len(computed) > 1
    assert sum(computed) < int(batch["attention_mask"].sum()) / 2
    unscored = {**batch, "labels": batch["labels"].clone()}
    unscored["labels"][0] = -100
    assert len(split(unscored, FEW)) == 1
    assert len(split({**batch, "pixel_values": torch.ones(1)}, FEW)) == 1
    left = {name: values.flip(1) for name, values in batch.items()}
    assert len(split(left, FEW)) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"packing": True, "max_length": 64}, r"SFTTrainer: packing, max_length are .*args=SFTConfig\(…, packing=True"),
        ({"max_seq_length": 64}, r"max_seq_length: TRL .* has no such setting any more.*SFTConfig\(max_length=…\)"),
    ],
)
def test_settings_in_the_wrong_place_are_told_where_they_go(
    tiny_model: Path, tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        sft_trainer_of(SFTTrainer, tiny_model, tmp_path, extra=arguments)


def test_without_a_forward_of_its_own_trls_trainer_is_the_measure(tiny_model: Path, tmp_path: Path) -> None:
    """The comparison in this folder would notice another forward: a model that differs fails it."""
    models = iter([llama(), llama(1)])
    with pytest.raises(AssertionError):
        a_step_of_both(tiny_model, tmp_path, lambda: next(models), FEW)
    assert trl.SFTTrainer in SFTTrainer.__mro__
