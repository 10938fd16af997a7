"""Arguments of the trainer as earlier TRL and much of the web write them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import AutoTokenizer
from trl import DPOConfig

from fairlead import DPOTrainer
from fairlead.errors import ConfigError
from tests.support.preference_rows import llama


def trainer(tiny_model: Path, tmp_path: Path, **arguments: Any) -> DPOTrainer:
    rows = [{"prompt": "a b", "chosen": " c d", "rejected": " e"}]
    config = DPOConfig(str(tmp_path), use_cpu=True, bf16=False, report_to=[])
    return DPOTrainer(llama(), args=config, train_dataset=Dataset.from_list(rows), **arguments)


def test_tokenizer_is_taken_for_processing_class_with_one_warning(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        made = [trainer(tiny_model, tmp_path, tokenizer=tokenizer) for _ in range(2)]
    notes = [str(warning.message) for warning in caught if "processing_class" in str(warning.message)]
    assert notes == ["DPOTrainer(tokenizer=…) is taken as processing_class=…, as TRL calls it since 0.12"]
    assert all(one.processing_class is tokenizer for one in made)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta": 0.1}, r"DPOTrainer: beta is a setting .*args=DPOConfig\(…, beta=0\.1\)"),
        ({"beta": 0.1, "max_length": 64}, r"beta, max_length are settings .*beta=0\.1, max_length=64"),
        ({"max_prompt_length": 64}, "max_prompt_length: TRL .* has no such setting any more"),
        ({"tokenizer": 1, "processing_class": 2}, "two names of one argument"),
    ],
)
def test_settings_in_the_wrong_place_are_told_where_they_go(
    tiny_model: Path, tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        trainer(tiny_model, tmp_path, **arguments)


def test_an_unknown_argument_is_python_s_own_error(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'tokeniser'"):
        trainer(tiny_model, tmp_path, tokeniser=1)
