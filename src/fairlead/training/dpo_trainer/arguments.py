"""The trainer's arguments, as TRL names them now and as the DPO paper's time and much of the web wrote them."""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import trl

from fairlead.errors import ConfigError, some
from fairlead.escape import shorten

# Settings of earlier TRL that its present DPOConfig does not have.
_GONE = (
    "max_prompt_length", "max_target_length", "label_pad_token_id", "padding_value", "ref_model_init_kwargs",
    "is_encoder_decoder", "generate_during_eval",
)  # fmt: skip


def by_name(args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of TRL's trainer by name; `tokenizer` is taken for `processing_class`, with a warning.

    Raises:
        ConfigError: if both are given, or what earlier TRL took here and now belongs into `DPOConfig`.
        TypeError: if there is no such argument.
    """
    renamed = dict(kwargs)
    if "tokenizer" in renamed:
        if renamed.get("processing_class") is not None:
            raise ConfigError(
                "tokenizer and processing_class are two names of one argument",
                where="DPOTrainer",
                remedy="give processing_class alone",
            )
        message = "DPOTrainer(tokenizer=…) is taken as processing_class=…, as TRL calls it since 0.12"
        warnings.warn(message, FutureWarning, stacklevel=3)
        renamed["processing_class"] = renamed.pop("tokenizer")
    signature = inspect.signature(trl.DPOTrainer.__init__)
    _refuse_settings({name: value for name, value in renamed.items() if name not in signature.parameters})
    bound = signature.bind(None, *args, **renamed).arguments
    return {name: value for name, value in bound.items() if name != "self"}


def _refuse_settings(unknown: Mapping[str, Any]) -> None:
    """Refuses what earlier TRL took as arguments of the trainer, naming where it goes."""
    fields = {field.name for field in dataclasses.fields(trl.DPOConfig)}
    moved = {name: value for name, value in unknown.items() if name in fields}
    if moved:
        written = ", ".join(f"{name}={shorten(repr(value), 40)}" for name, value in moved.items())
        raise ConfigError(
            f"{some(moved)} {'is a setting' if len(moved) == 1 else 'are settings'} of the training's config",
            where="DPOTrainer",
            remedy=f"write DPOTrainer(…, args=DPOConfig(…, {written}))",
        )
    gone = [name for name in unknown if name in _GONE]
    if gone:
        raise ConfigError(
            f"{some(gone)}: TRL {trl.__version__} has no such setting any more",
            where="DPOTrainer",
            remedy="leave it out; args=DPOConfig(max_length=…) bounds prompt and answer together",
        )
