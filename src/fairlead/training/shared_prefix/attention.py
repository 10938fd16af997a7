"""Attention over the segments of a packed row, as an attention implementation of transformers.

`register` derives from an attention implementation a second one, named `shared_prefix:<name>`. Called without a layout
it is the original; called with `shared_prefix=layout` it computes the attention of each segment of the row. A model
keeps it from then on, because gradient checkpointing calls attention again during the backward pass.

On CUDA one FlexAttention call computes the whole row. Elsewhere, and where FlexAttention cannot be used, each segment
is one call of PyTorch's scaled dot-product attention, or explicit matrix products where a soft cap, attention sinks or
dropout need the scores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from fairlead.training.shared_prefix.layout import Layout, LongRowError, UnsupportedError
from fairlead.training.trl_compat import eager_attention

PREFIX = "shared_prefix:"
KNOWN = ("eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3", "flash_attention_4")

# Arguments that do not change which keys a query attends to, or with what weight.
_NEUTRAL = {
    "position_ids",
    "cache_position",
    "use_cache",
    "past_key_values",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "return_dict",
    "num_items_in_batch",
    "position_embeddings",
}

Attention = Callable[..., tuple[Tensor, Tensor | None]]


def register(original: str) -> str:
    """Registers the implementation derived from `original`, and returns its name.

    Raises:
        UnsupportedError: if it is not known what `original` computes.
    """
    if original.startswith(PREFIX):
        return original
    if original not in KNOWN:
        raise UnsupportedError(f"the attention implementation {original} is not known")
    name = PREFIX + original
    if name not in ALL_ATTENTION_FUNCTIONS:
        ALL_ATTENTION_FUNCTIONS.register(name, _derived(original))
        ALL_MASK_ATTENTION_FUNCTIONS.register(name, ALL_MASK_ATTENTION_FUNCTIONS[original])
    return name


def _derived(original: str) -> Attention:
    def attention(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        layout = kwargs.pop("shared_prefix", None)
        if layout is not None:
            # The packed row is given a mask of one element, which says nothing.
            if attention_mask is not None and attention_mask.numel() > 1:
                raise UnsupportedError(f"{type(module).__name__} makes a mask of its own")
            return _shared_prefix_attention(module, query, key, value, layout, **kwargs), None
        delegate = eager_attention(module) if original == "eager" else ALL_ATTENTION_FUNCTIONS[original]
        if delegate is None:
            raise UnsupportedError(f"{type(module).__name__} has no eager attention beside it")
        result: tuple[Tensor, Tensor | None] = delegate(module, query, key, value, attention_mask, **kwargs)
        return result

    return attention


def _shared_prefix_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> Tensor:
    """[1, heads, N, D] queries over [1, groups, N, D] keys and values to [1, N, heads, D].

    Raises:
        UnsupportedError: for an argument whose meaning is not known, or attention that is not causal.
    """
    unknown = sorted(name for name, value in kwargs.items() if value is not None and name not in _NEUTRAL)
    if unknown:
        raise UnsupportedError(f"{type(module).__name__} passes {', '.join(unknown)} to its attention")
    if not (getattr(module, "is_causal", True) if is_causal is None else is_causal):
        raise UnsupportedError(f"{type(module).__name__} is not causal")
    _require_whole_rows_seen(module, layout, sliding_window)
    layout.calls.append(1)
    if query.device.type == "cuda" and not dropout and query.shape[-1] >= 16:
        return _flex(module, query, key, value, layout, scaling, sliding_window, softcap, s_aux)
    explicit = bool(dropout) or softcap is not None or s_aux is not None
    queries = torch.split(query, [segment.length for segment in layout.segments], dim=2)
    keys, values = (torch.split(tensor, list(layout.pieces), dim=2) for tensor in (key, value))
    outputs: list[Tensor] = []
    for q, segment in zip(queries, layout.segments, strict=True):
        k, v = (torch.cat([pieces[number] for number in segment.path], dim=2) for pieces in (keys, values))
        mask = _mask(layout, q.shape[2], k.shape[2], sliding_window, explicit, q)
        if explicit:
            out = _explicit(q, k, v, mask, scaling, dropout, softcap, s_aux)
        else:
            out = F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=q.shape[1] != k.shape[1]
            )
        outputs.append(out.transpose(1, 2))
    return torch.cat(outputs, dim=1)


def _require_whole_rows_seen(module: nn.Module, layout: Layout, sliding_window: int | None) -> None:
    """Demands that no mask which attention is not told of would cut a row: a window (PhiMoE), or chunks (Llama 4).

    Raises:
        LongRowError: if a row is longer than the window or the chunk.
    """
    config = getattr(module, "config", None)
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"]  # without kinds a window is every layer's
    number = getattr(module, "layer_idx", None)
    if isinstance(number, int) and number < len(kinds):
        kinds = [kinds[number]]
    sights = {"chunked_attention": getattr(config, "attention_chunk_size", None)}
    if sliding_window is None:
        sights["sliding_attention"] = getattr(config, "sliding_window", None)
    known = [sight for kind in kinds if (sight := sights.get(kind)) is not None]
    if known and layout.longest() > min(known):
        raise LongRowError(f"a row is longer than the {min(known)} tokens that {type(module).__name__} looks back")


def _mask(layout: Layout, queries: int, keys: int, window: int | None, explicit: bool, like: Tensor) -> Tensor | None:
    """Additive mask of the last `queries` of `keys` tokens over all of them; None where plain causal is enough.

    A query at position i attends to keys j ≤ i, and with a window w only to those with i - j < w.
    """
    windowed = window is not None and window < keys
    if queries == keys and not windowed and not explicit:
        return None
    name = (queries, keys, window if windowed else None, like.dtype, like.device)
    if name not in layout.masks:
        distance = torch.arange(keys - queries, keys, device=like.device)[:, None] - torch.arange(
            keys, device=like.device
        )
        seen = (distance >= 0) & (distance < window) if windowed and window is not None else distance >= 0
        layout.masks[name] = torch.zeros_like(seen, dtype=like.dtype).masked_fill_(~seen, float("-inf"))
    mask: Tensor = layout.masks[name]
    return mask


def _explicit(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float | None,
    dropout: float,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """Attention by its formula, for what PyTorch's attention function does not offer.

    Scores s are capped as c · tanh(s / c) (Gemma 2, arXiv 2408.00118); a sink is a score per head that takes part in
    the softmax and has no value (gpt-oss).
    """
    repeats = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if mask is not None:
        scores = scores + mask
    if sinks is not None:
        column = sinks.reshape(1, -1, 1, 1).expand(1, -1, scores.shape[2], 1).to(scores.dtype)
        scores = torch.cat([scores, column], dim=-1)
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(value.dtype)[..., : key.shape[2]]
    return F.dropout(weights, dropout) @ value


def _flex(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    scaling: float | None,
    window: int | None,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """The whole row in one FlexAttention call; blocks that nothing attends to are skipped."""
    from transformers.integrations.flex_attention import flex_attention_forward

    window = None if window is None or window >= layout.longest() else window
    name = ("block", window, query.device)
    if name not in layout.masks:
        layout.masks[name] = block_mask(layout, window, query.device)
    output: Tensor = flex_attention_forward(
        module,
        query,
        key,
        value,
        layout.masks[name],
        scaling=scaling,
        softcap=softcap,
        s_aux=sinks,
    )[0]
    return output


def block_mask(layout: Layout, window: int | None, device: torch.device) -> Any:
    """FlexAttention's block mask of a layout: the mask in the docstring of `layout`."""
    from torch.nn.attention.flex_attention import create_block_mask

    length = layout.input_ids.shape[1]
    mask_mod = _mask_mod(layout.ends.to(device), layout.position_ids[0].to(device), window)
    return create_block_mask(mask_mod, B=None, H=None, Q_LEN=length, KV_LEN=length, device=str(device))


def _mask_mod(ends: Tensor, positions: Tensor, window: int | None) -> Any:
    def attends(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        del batch, head
        allowed = (query >= key) & (query < ends[key])
        if window is not None:
            allowed = allowed & (positions[query] - positions[key] < window)
        return allowed

    return attends
