"""What the shared-prefix forward has to know of a model: its text decoder, and what that attends to."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.tensor import DTensor
from transformers import PreTrainedConfig, PreTrainedModel

from fairlead.training.shared_prefix.layout import UnsupportedError
from fairlead.training.trl_compat import calls_registered_attention

LENGTH_DEPENDENT_ROPE = {"dynamic", "longrope"}
"""Rotary embeddings whose frequencies depend on the longest row of the batch."""

_LAYERS = {"full_attention", "sliding_attention", "chunked_attention"}


def text_decoder(model: PreTrainedModel) -> nn.Module:
    """The decoder of text under the language-model head; beside it a model may have parts that see or hear."""
    base: nn.Module = model.base_model
    if base is model or model.config.get_text_config() is not model.config:
        base = model.get_decoder()
    if base is model:  # Llama 4's prefix names the part of a larger model that it is
        base = getattr(model, "model", model)
    return base


def is_sharded(model: nn.Module) -> bool:
    """Whether processes share the weights (FSDP, DeepSpeed ZeRO-3), so that all must call the decoder equally often."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return False
    return any(isinstance(module, FullyShardedDataParallel) for module in model.modules()) or any(
        isinstance(parameter, DTensor) or hasattr(parameter, "ds_id") for parameter in model.parameters()
    )


def require_causal(model: PreTrainedModel) -> None:
    """Refuses models of which a token's value may depend on later tokens.

    Raises:
        UnsupportedError: with the reason.
    """
    config = model.config
    text = config.get_text_config()
    both_ways = getattr(text, "use_bidirectional_attention", None)
    for unsupported, reason in (
        (config.is_encoder_decoder, "it has an encoder"),
        (not getattr(config, "is_causal", True) or not getattr(text, "is_causal", True), "it is not causal"),
        (both_ways and both_ways != "vision", "it looks in both directions"),  # "vision": at images only
        (text_decoder(model) is model, "it has no decoder under its language-model head"),
    ):
        if unsupported:
            raise UnsupportedError(f"{type(model).__name__}: {reason}")


def require_known_attention(model: PreTrainedModel) -> None:
    """Refuses models whose tokens depend on others by anything else than attention that can be told of the layout.

    Raises:
        UnsupportedError: with the reason.
    """
    text = model.config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ["full_attention"])
    for unsupported, reason in (
        (not calls_registered_attention(model), "it does not use transformers' attention interface"),
        (not kinds <= _LAYERS, f"it has layers of the kind {', '.join(sorted(kinds - _LAYERS))}"),
        (not hasattr(text, "num_hidden_layers"), "it does not say how many layers it has"),
    ):
        if unsupported:
            raise UnsupportedError(f"{type(model).__name__}: {reason}")


def rope_types(config: PreTrainedConfig) -> set[str]:
    """The kinds of rotary embedding in a config."""
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    by_layer = [value for value in rope.values() if isinstance(value, dict)]
    return {str(parameters.get("rope_type", "default")) for parameters in (by_layer or [rope])}
