"""The arguments of the drop-in trainers, as TRL names them now and as earlier TRL and much of the web wrote them."""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import trl
from transformers import PreTrainedModel

from fairlead.errors import ConfigError, some
from fairlead.escape import shorten
from fairlead.models import hardware
from fairlead.training.trl_compat import model_id

# Settings of earlier TRL that its present configs do not have.
_GONE = {
    "max_prompt_length", "max_target_length", "max_seq_length", "label_pad_token_id", "padding_value",
    "ref_model_init_kwargs", "is_encoder_decoder", "generate_during_eval", "num_of_sequences", "chars_per_token",
    "dataset_batch_size",
}  # fmt: skip
_MAX_LENGTH = {
    "DPOTrainer": "max_length=…) bounds prompt and answer together",
    "SFTTrainer": "max_length=…) bounds a row",
}


def by_name(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of one of TRL's trainers by name.

    `tokenizer` is taken for `processing_class`, with a warning. Where no config is given and there is no accelerator,
    one for the CPU is added, because TRL's own defaults refuse to run there.

    Args:
        name: "DPOTrainer" or "SFTTrainer".

    Raises:
        ConfigError: if both are given, or what earlier TRL took here and now belongs into the config.
        TypeError: if there is no such argument.
    """
    trainer, config = getattr(trl, name), getattr(trl, name.replace("Trainer", "Config"))
    renamed = dict(kwargs)
    if "tokenizer" in renamed:
        if renamed.get("processing_class") is not None:
            raise ConfigError(
                "tokenizer and processing_class are two names of one argument",
                where=name,
                remedy="give processing_class alone",
            )
        message = f"{name}(tokenizer=…) is taken as processing_class=…, as TRL calls it since 0.12"
        warnings.warn(message, FutureWarning, stacklevel=3)
        renamed["processing_class"] = renamed.pop("tokenizer")
    signature = inspect.signature(trainer.__init__)
    unknown = {key: value for key, value in renamed.items() if key not in signature.parameters}
    _refuse_settings(name, config, unknown)
    arguments = dict(signature.bind(None, *args, **renamed).arguments)
    del arguments["self"]
    if arguments.get("args") is None and hardware.device().type == "cpu":
        folder = f"{_name_of(arguments['model'])}-{name.removesuffix('Trainer')}"
        arguments["args"] = config(folder, use_cpu=True, bf16=False)
    return arguments


def _refuse_settings(name: str, config: type, unknown: Mapping[str, Any]) -> None:
    """Refuses what earlier TRL took as arguments of the trainer, naming where it goes."""
    fields = {field.name for field in dataclasses.fields(config)}
    moved = {key: value for key, value in unknown.items() if key in fields}
    if moved:
        written = ", ".join(f"{key}={shorten(repr(value), 40)}" for key, value in moved.items())
        raise ConfigError(
            f"{some(moved)} {'is a setting' if len(moved) == 1 else 'are settings'} of the training's config",
            where=name,
            remedy=f"write {name}(…, args={config.__name__}(…, {written}))",
        )
    gone = [key for key in unknown if key in _GONE]
    if gone:
        raise ConfigError(
            f"{some(gone)}: TRL {trl.__version__} has no such setting any more",
            where=name,
            remedy=f"leave it out; args={config.__name__}({_MAX_LENGTH[name]}",
        )


def _name_of(model: str | PreTrainedModel) -> str:
    name = model if isinstance(model, str) else model_id(model.config)
    return name.split("/")[-1]
