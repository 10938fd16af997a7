"""Attention of one new token per row on a CPU, as two batches of matrix products.

PyTorch's attention function is made for many queries: with one per row it takes two to three times as long as the
products themselves. Heads that share keys and values are the rows of one product, so nothing is repeated.

Only what is computed by plain scaled dot-product attention is replaced; every other call goes to transformers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

_NAME = "fairlead_grouped"
_PLAIN = "sdpa"  # also with a prefix, as in shared_prefix:sdpa, which is sdpa where no layout is given
# Arguments that do not change what the attention of a new token is; a window is in the mask.
_NEUTRAL = {"position_ids", "cache_position", "use_cache", "sliding_window", "is_causal", "return_dict"}


def grouped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """[R, heads, 1, D] queries over [R, groups, N, D] keys and values to [R, 1, heads, D].

    Args:
        attention_mask: [R, 1, 1, N], true where a query sees a key; None where it sees all.
    """
    unknown = any(value is not None and name not in _NEUTRAL for name, value in kwargs.items())
    masked = attention_mask is None or (attention_mask.dtype == torch.bool and attention_mask.shape[1] == 1)
    if query.shape[2] != 1 or dropout or unknown or not masked:
        result: tuple[Tensor, Tensor | None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return result
    rows, groups, length, size = key.shape
    queries = query.reshape(rows * groups, -1, size)
    scores = torch.bmm(queries, key.reshape(rows * groups, length, size).transpose(1, 2)).float()
    scores = scores.mul_(size**-0.5 if scaling is None else scaling).view(rows, groups, -1, length)
    if attention_mask is not None:
        scores.masked_fill_(~attention_mask, float("-inf"))
    weights = scores.softmax(-1).to(value.dtype).view(rows * groups, -1, length)
    output = torch.bmm(weights, value.reshape(rows * groups, length, -1))
    return output.view(rows, 1, query.shape[1], -1), None


@contextmanager
def grouped_decoding(model: PreTrainedModel) -> Iterator[None]:
    """Lets the layers of a model on a CPU that call PyTorch's attention call `grouped_attention` within the block."""
    if _NAME not in ALL_ATTENTION_FUNCTIONS:
        ALL_ATTENTION_FUNCTIONS.register(_NAME, grouped_attention)
        ALL_MASK_ATTENTION_FUNCTIONS.register(_NAME, ALL_MASK_ATTENTION_FUNCTIONS[_PLAIN])
    configs = _configs(model) if model._supports_attention_backend and model.device.type == "cpu" else []
    originals = [config._attn_implementation for config in configs]
    try:
        for config in configs:
            config._attn_implementation_internal = _NAME
        yield
    finally:
        for config, original in zip(configs, originals, strict=True):
            config._attn_implementation_internal = original


def _configs(model: PreTrainedModel) -> list[PreTrainedConfig]:
    configs = [getattr(module, "config", None) for module in model.modules()]
    found = {id(c): c for c in configs if isinstance(c, PreTrainedConfig)}.values()
    return [c for c in found if str(c._attn_implementation).rpartition(":")[2] == _PLAIN]
