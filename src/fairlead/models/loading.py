"""Loads base models, tokenizers and adapters: safetensors only, no remote code unless the config says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from fairlead.config.model import ModelSection
from fairlead.errors import DataError, ModelError
from fairlead.files import read_json, read_text
from fairlead.models import hardware
from fairlead.models.chat import check_template
from fairlead.pipeline.stage import resolve

_FOLDER_REMEDY = "model.name wants a complete folder written by save_pretrained, with *.safetensors"
_TRAIN_AGAIN = "train it again for this model.name: fairlead run"
# What transformers, PEFT and tokenizers raise about files that are not what they should be.
_LOADING_ERRORS = (OSError, ValueError, ImportError, LookupError, RuntimeError, TypeError, AttributeError)

# Plain text for tokenizers without a chat template: every turn ends a line, an answer ends with the end-of-sequence
# token. It travels with the tokenizer, so the trained model is prompted the same way everywhere.
PLAIN_TEMPLATE = (
    "{{ bos }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ message['content'] + eos_token }}"
    "{% else %}{{ message['content'] + '\\n' }}{% endif %}{% endfor %}"
)


def locate(name: str, folder: Path) -> str:
    """A model's folder if the name is one, else the hub id unchanged.

    Raises:
        ModelError: if a folder of that name exists and is no model, or the name looks like a path and is absent.
    """
    path = resolve(folder, name)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(
                "is no model folder: it has no config.json",
                where=str(path),
                remedy="model.name wants a folder written by save_pretrained, or a hub id",
            )
        _check_config(path / "config.json")
        return str(path)
    looks_like_path = name.startswith((".", "/", "~")) or name.count("/") > 1
    if looks_like_path or path.is_file():
        raise ModelError("no such model folder", where=str(path), remedy="correct model.name in fairlead.yaml")
    return name


def _check_config(path: Path) -> None:
    """Refuses a config.json that is no JSON object; transformers would end in an error about something else."""
    try:
        is_object = isinstance(read_json(path), dict)
    except DataError as error:
        raise ModelError(f"its config.json {error.what}", where=str(path.parent), remedy=_FOLDER_REMEDY) from error
    if not is_object:
        raise ModelError("its config.json holds no JSON object", where=str(path.parent), remedy=_FOLDER_REMEDY)


def load_tokenizer(section: ModelSection, folder: Path, source: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer, with a pad token and a chat template whatever its repository lacks.

    Args:
        source: a folder to load it from instead of the base model's (a trained model carries its own copy).

    Raises:
        ModelError: if it cannot be loaded, can never end an answer, or its chat template fails on a plain question.
    """
    name = source or locate(section.name, folder)
    tokenizer: PreTrainedTokenizerBase = _from_pretrained(AutoTokenizer, name, section)
    template = read_text(resolve(folder, section.chat_template)) if section.chat_template else None
    complete_tokenizer(tokenizer, name, template)
    check_template(tokenizer, section.chat_template or name)
    return tokenizer


def complete_tokenizer(tokenizer: PreTrainedTokenizerBase, name: str, template: str | None = None) -> None:
    """Gives a tokenizer the pad token and the chat template that it lacks.

    Args:
        template: a chat template to take instead of its own.

    Raises:
        ModelError: if it has no end-of-sequence token.
    """
    if tokenizer.eos_token is None:
        raise ModelError(
            "its tokenizer has no end-of-sequence token, so an answer could never end",
            where=name,
            remedy="set eos_token in its tokenizer_config.json",
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # padding is masked everywhere, so any token will do
    if template is not None:
        tokenizer.chat_template = template
    elif tokenizer.chat_template is None:
        first = tokenizer("a")["input_ids"][:1]
        begins = tokenizer.bos_token is not None and first == [tokenizer.bos_token_id]
        tokenizer.chat_template = PLAIN_TEMPLATE.replace("{{ bos }}", "{{ bos_token }}" if begins else "")


def load_base(section: ModelSection, folder: Path, source: str | None = None) -> PreTrainedModel:
    """The base model on this machine's device, in evaluation mode.

    Args:
        source: a folder of full weights to load instead (a fully fine-tuned SFT or DPO model).

    Raises:
        ModelError: if it cannot be loaded, with the reason in one line.
    """
    name = source or locate(section.name, folder)
    on = hardware.device()
    kwargs: dict[str, Any] = {"dtype": hardware.resolve_dtype(section.dtype, on), "use_safetensors": True}
    if section.quantization == "4bit":
        kwargs["quantization_config"] = _four_bit(on)
        kwargs["device_map"] = {"": on}
    model = _from_pretrained(AutoModelForCausalLM, name, section, **kwargs)
    if section.quantization is None:
        model.to(on)
    loaded: PreTrainedModel = model.eval()
    return loaded


def load_adapter(base: PreTrainedModel, folder: Path, *, name: str = "default", trainable: bool = False) -> PeftModel:
    """Wraps `base` with the adapter in `folder`."""
    with adapter_errors(folder):
        model = PeftModel.from_pretrained(base, str(folder), adapter_name=name, is_trainable=trainable)
    # The adapter names its base as the config does, relative to the project; PEFT would look for that on the hub.
    model.peft_config[name].base_model_name_or_path = base.config._name_or_path
    return model


@contextmanager
def adapter_errors(folder: Path) -> Iterator[None]:
    """Turns whatever PEFT raises about an adapter that it cannot load into one line."""
    try:
        yield
    except SafetensorError as error:
        raise ModelError(
            f"the adapter's weights are damaged: {_first_line(error)}", where=str(folder), remedy=_TRAIN_AGAIN
        ) from error
    except _LOADING_ERRORS as error:
        raise ModelError(
            f"the adapter does not fit the base model: {_first_line(error)}", where=str(folder), remedy=_TRAIN_AGAIN
        ) from error


def _four_bit(on: torch.device) -> BitsAndBytesConfig:
    if on.type != "cuda":
        raise ModelError(
            "4bit needs a CUDA device, this machine has none",
            where="model.quantization",
            remedy="set model.quantization: null (fairlead doctor shows what this machine can do)",
        )
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if hardware.computes_bf16(on) else torch.float16,
    )


def _from_pretrained(factory: Any, name: str, section: ModelSection, **kwargs: Any) -> Any:
    if not Path(name).is_dir():
        kwargs["revision"] = section.revision
    try:
        return factory.from_pretrained(name, trust_remote_code=section.trust_remote_code, **kwargs)
    except SafetensorError as error:
        raise ModelError(
            f"its weights are damaged: {_first_line(error)}", where=name, remedy="copy or download the model again"
        ) from error
    except _LOADING_ERRORS as error:
        raise ModelError(f"cannot be loaded: {_first_line(error)}", where=name, remedy=_remedy(name)) from error


def _remedy(name: str) -> str:
    if Path(name).is_dir():
        return _FOLDER_REMEDY
    return "check the id, the network and HF_TOKEN, or give a folder as model.name"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
