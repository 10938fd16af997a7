"""A model that also takes images is loaded, trained and asked with text alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from peft import get_peft_model

from fairlead.config.model import ModelSection
from fairlead.config.training import LoraSection
from fairlead.models.batch_generate import generate_in_batches
from fairlead.models.continuous_batching import DecodeRequest, decode, why_unsupported
from fairlead.models.loading import empty_base, load_base
from fairlead.records import Sampling
from fairlead.training.hf_trainer import lora_config
from tests.support.twins import _WIDE, answers, assert_same, batch, twins_of

_SEES = {"hidden_size": 32, "intermediate_size": 48, "image_size": 16, "patch_size": 8}

MODELS: dict[str, Callable[[], hf.PreTrainedConfig]] = {
    "gemma3": lambda: hf.Gemma3Config(
        text_config={**_WIDE, "sliding_window": 5, "query_pre_attn_scalar": 8},
        vision_config={**_SEES, "num_hidden_layers": 1, "num_attention_heads": 4},
        mm_tokens_per_image=4,
    ),
    "qwen2_5_vl": lambda: hf.Qwen2_5_VLConfig(
        text_config={**_WIDE, "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1]}},
        vision_config={"hidden_size": 32, "out_hidden_size": 32, "intermediate_size": 48, "depth": 1, "num_heads": 4},
    ),
}


@pytest.fixture(params=MODELS)
def folder(request: Any, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    hf.AutoModelForImageTextToText.from_config(MODELS[request.param]()).save_pretrained(tmp_path)
    return tmp_path


def loaded(folder: Path) -> Any:
    return load_base(ModelSection(name=str(folder), dtype="float32"), folder)


def test_it_has_the_log_probabilities_that_trl_computes(folder: Path) -> None:
    ours, theirs, packed = twins_of(loaded(folder))
    assert_same(ours, theirs, answers(ours, theirs, batch()))
    assert (packed.way, packed.reason) == ("packed", None)


def test_it_decodes_as_generate_does(folder: Path) -> None:
    model = loaded(folder)
    requests = [DecodeRequest(range(5, 5 + n), Sampling(0.0, 1.0, 8)) for n in (2, 7, 4)]
    assert why_unsupported(model) is None
    one_by_one = generate_in_batches(model, requests, batch_size=1, eos_ids=set(), pad_id=0)
    assert decode(model, requests, batch_size=2, eos_ids=set(), pad_id=0) == one_by_one


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"]])
def test_an_adapter_lies_on_the_text_decoder_alone(folder: Path, targets: Any) -> None:
    model = loaded(folder)
    adapted = get_peft_model(model, lora_config(LoraSection(targets=targets), model, "model"))
    trained = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    layers = {name.split(".lora_")[0] for name in trained}
    assert all(".language_model.layers." in name for name in layers)
    assert len(layers) == model.config.get_text_config().num_hidden_layers * (7 if targets == "all-linear" else 2)


def test_its_modules_are_known_without_its_weights(folder: Path) -> None:
    section = ModelSection(name=str(folder), dtype="float32")
    empty = {name: value.shape for name, value in empty_base(section, folder).state_dict().items()}
    assert empty == {name: value.shape for name, value in loaded(folder).state_dict().items()}
