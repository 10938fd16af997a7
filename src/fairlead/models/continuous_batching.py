"""Decoding with a batch that stays full: a finished completion leaves it and the next prompt takes its place.

`generate` of transformers computes a batch until its longest completion ends, and every other row with it. Here the
rows that have ended are taken out of the key-value cache, padding that no row needs any more is cut off, and waiting
prompts are prefilled into the free places. Completions of one prompt share its prefill. Rows of different adapters
share the batch.

Knows nothing of tokenizers, messages or model variants: tokens in, tokens out.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from fairlead.models.token_sampling import TokenChooser
from fairlead.records import Sampling

NO_ADAPTER = "__base__"
"""PEFT's name for rows of a mixed batch that no adapter touches."""

_REBUILD_SHARE = 8  # prompts enter when an eighth of the places is free: each entry copies the cache


@dataclass(frozen=True)
class DecodeRequest:
    """One completion to decode.

    Attributes:
        prompt: token ids.
        sampling: how tokens are drawn, and how many at most.
        seed: of its random stream.
        adapter: the adapter that answers in a mixed batch, `NO_ADAPTER` for none; None: the model as it is.
    """

    prompt: Sequence[int]
    sampling: Sampling
    seed: int = 0
    adapter: str | None = None


def why_unsupported(model: Any) -> str | None:
    """Why rows of this model cannot leave and enter a batch; None if they can.

    Positions must be given and every cache layer must hold the keys and values of tokens: recurrent states, layers
    that share a cache and models without positions cannot be cut by rows.
    """
    base = model
    if isinstance(model, PeftModel):
        if any(config.is_prompt_learning for config in model.peft_config.values()):
            return "its adapter puts virtual tokens before the prompt"
        base = model.get_base_model()
    if base.config.is_encoder_decoder:
        return "it is an encoder-decoder"
    if getattr(base, "_is_stateful", False):
        return "it has recurrent states"
    if "position_ids" not in inspect.signature(base.forward).parameters:
        return "its forward takes no positions"
    if getattr(base.config.get_text_config(), "num_kv_shared_layers", 0):
        return "some of its layers share a key-value cache"
    known = (DynamicLayer, DynamicSlidingWindowLayer)
    if any(type(layer) not in known for layer in DynamicCache(config=base.config).layers):
        return "some of its layers keep another state than keys and values"
    return None


def _empty_cache(model: Any) -> DynamicCache:
    """A cache that keeps the keys and values of all tokens, in layers with a sliding window too.

    A layer that forgets what has left its window holds as many places for every row, whatever their lengths, so rows
    could not be joined or padding cut. Kept whole, the mask alone hides what is outside the window (or the chunk):
    transformers makes it from places in the cache, which within a row are as far apart as the tokens.
    """
    cache = DynamicCache(config=model.config)
    cache.layers = [DynamicLayer() for _ in cache.layers]
    return cache


def mixes_adapters(model: Any) -> bool:
    """Whether rows of different adapters can share a batch: PEFT has no such batches with DoRA."""
    configs = model.peft_config.values() if isinstance(model, PeftModel) else ()
    return not any(getattr(config, "use_dora", False) for config in configs)


def supports_continuous_batching(model: Any) -> bool:
    return why_unsupported(model) is None


@torch.no_grad()
def decode(
    model: Any,
    requests: Sequence[DecodeRequest],
    *,
    batch_size: int,
    eos_ids: set[int],
    pad_id: int,
    finished: Callable[[int], None] = lambda _: None,
) -> list[list[int]]:
    """New tokens of every request, the end token included.

    Args:
        model: a causal LM in evaluation mode for which `supports_continuous_batching` holds; a PEFT model where
            requests name adapters, which then all do.
        batch_size: rows decoded at once.
        eos_ids: token ids that end a completion.
        pad_id: token id that stands in padding; masked everywhere.
        finished: called with the number of completions that have ended since the last call.
    """
    batch = _Batch(model, requests, pad_id)
    choose = TokenChooser([r.sampling for r in requests], [r.seed for r in requests])
    # Taken from the end, the longest prompts first: rows that enter together need little padding, and memory runs out
    # at once or not at all. Completions of one prompt are neighbours.
    waiting = sorted(range(len(requests)), key=lambda n: (len(requests[n].prompt), _prefill_key(requests[n])))
    completions: list[list[int]] = [[] for _ in requests]
    while waiting or batch.rows:
        free = batch_size - len(batch.rows)
        if waiting and (not batch.rows or free >= max(1, batch_size // _REBUILD_SHARE)):
            entering = [waiting.pop() for _ in range(min(free, len(waiting)))]
            batch.admit(entering, waiting[-1] if waiting else None)
        tokens = choose(batch.logits, batch.rows)
        ended = []
        for row, token in zip(batch.rows, tokens.tolist(), strict=True):
            completions[row].append(token)
            ended.append(token in eos_ids or len(completions[row]) >= requests[row].sampling.max_new_tokens)
        if any(ended):
            finished(sum(ended))
            staying = [place for place, over in enumerate(ended) if not over]
            batch.keep(staying)
            tokens = tokens[staying]
        if batch.rows:
            batch.step(tokens)
    return completions


def _prefill_key(request: DecodeRequest) -> tuple[tuple[int, ...], str]:
    """Requests of one key have the same keys and values after their prompt."""
    return tuple(request.prompt), request.adapter or ""


@dataclass
class _Prefilled:
    """Prompts that have been computed: keys and values by layer, (rows, heads, length, size), mask, and next logits."""

    states: list[tuple[Tensor, Tensor]]
    mask: Tensor
    logits: Tensor

    def take(self, places: Sequence[int]) -> _Prefilled:
        """Rows at `places`, some perhaps several times."""
        if list(places) == list(range(len(self.mask))):
            return self
        index = torch.tensor(places, device=self.mask.device)
        return _Prefilled([(k[index], v[index]) for k, v in self.states], self.mask[index], self.logits[index])

    def join(self, other: _Prefilled) -> _Prefilled:
        """Both, padded on the left to one length."""
        length = max(self.mask.shape[1], other.mask.shape[1])
        states = [
            (_stack(keys, other_keys, length), _stack(values, other_values, length))
            for (keys, values), (other_keys, other_values) in zip(self.states, other.states, strict=True)
        ]
        masks = [pad(mask, (length - mask.shape[1], 0)) for mask in (self.mask, other.mask)]
        return _Prefilled(states, torch.cat(masks), torch.cat([self.logits, other.logits]))


class _Batch:
    """The rows under way: their cache, which of its places are padding, and the logits of their next tokens.

    `_mask` is (rows, length) with 1 where the cache holds a token; rows end at the right, padding is on the left.
    """

    def __init__(self, model: Any, requests: Sequence[DecodeRequest], pad_id: int) -> None:
        self._model, self._requests, self._pad_id = model, requests, pad_id
        self._base = model.get_base_model() if isinstance(model, PeftModel) else model
        self._device = next(self._base.parameters()).device
        self._last_only = "logits_to_keep" in inspect.signature(self._base.forward).parameters
        self._cache = _empty_cache(self._base)
        self._mask = torch.zeros(0, 0, dtype=torch.long, device=self._device)
        self._held: tuple[tuple[tuple[int, ...], str], _Prefilled] | None = None
        self.rows: list[int] = []
        self.logits = torch.empty(0)

    def admit(self, rows: Sequence[int], following: int | None) -> None:
        """Prefills the prompts of `rows` once each and joins the rows to those under way.

        Args:
            following: the request that enters next. If its prompt is among those of `rows`, its prefill is kept.
        """
        keys = [_prefill_key(self._requests[row]) for row in rows]
        held = self._held if self._held is not None and self._held[0] in keys else None
        self._held = None
        first_rows = dict(zip(reversed(keys), reversed(rows), strict=True))
        new = [(key, row) for key, row in first_rows.items() if held is None or key != held[0]]
        parts = [] if held is None else [held[1]]
        if new:
            parts.append(self._prefill([row for _, row in new]))
        prompts = parts[0].join(parts[1]) if len(parts) == 2 else parts[0]
        places = {key: n for n, key in enumerate(([] if held is None else [held[0]]) + [key for key, _ in new])}
        if following is not None and (key := _prefill_key(self._requests[following])) in places:
            self._held = key, prompts.take([places[key]])
        entering = prompts.take([places[key] for key in keys])
        if self.rows:
            entering = self._under_way().join(entering)
        self._load(entering)
        self.rows = [*self.rows, *rows]

    def _prefill(self, rows: Sequence[int]) -> _Prefilled:
        prompts = [list(self._requests[row].prompt) for row in rows]
        length = max(map(len, prompts))
        ids = torch.tensor([[self._pad_id] * (length - len(p)) + p for p in prompts], device=self._device)
        mask = torch.tensor([[0] * (length - len(p)) + [1] * len(p) for p in prompts], device=self._device)
        cache = _empty_cache(self._base)
        logits = self._forward(ids, mask, (mask.cumsum(-1) - 1).clamp(min=0), cache, rows)
        return _Prefilled([(layer.keys, layer.values) for layer in cache.layers], mask, logits)

    def _under_way(self) -> _Prefilled:
        return _Prefilled([(layer.keys, layer.values) for layer in self._cache.layers], self._mask, self.logits)

    def _load(self, content: _Prefilled) -> None:
        """Makes `content` the rows under way."""
        for layer, (keys, values) in zip(self._cache.layers, content.states, strict=True):
            if not layer.is_initialized:
                layer.lazy_initialization(keys, values)
            layer.keys, layer.values = keys, values
        self._mask, self.logits = content.mask, content.logits

    def keep(self, places: Sequence[int]) -> None:
        """Takes all other rows out, and the padding that only they needed."""
        self.rows = [self.rows[place] for place in places]
        if not places:
            return
        staying = self._under_way().take(places)
        unused = int((staying.mask.sum(0) == 0).to(torch.long).cumprod(0).sum())
        states = [(keys[:, :, unused:], values[:, :, unused:]) for keys, values in staying.states]
        self._load(_Prefilled(states, staying.mask[:, unused:], staying.logits))

    def step(self, tokens: Tensor) -> None:
        """Feeds each row its next token."""
        positions = self._mask.sum(-1, keepdim=True)
        self._mask = torch.cat([self._mask, torch.ones_like(positions)], dim=1)
        self.logits = self._forward(tokens[:, None], self._mask, positions, self._cache, self.rows)

    def _forward(
        self, ids: Tensor, mask: Tensor, positions: Tensor, cache: DynamicCache, rows: Sequence[int]
    ) -> Tensor:
        extra: dict[str, Any] = {"logits_to_keep": 1} if self._last_only else {}
        if any(self._requests[row].adapter is not None for row in rows):
            extra["adapter_names"] = [self._requests[row].adapter for row in rows]
        output = self._model(
            input_ids=ids.to(self._device),
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            **extra,
        )
        logits: Tensor = output.logits[:, -1].float()
        return logits


def _stack(first: Tensor, second: Tensor, length: int) -> Tensor:
    """Rows of both, (rows, heads, length, size), with zeros before the tokens; the mask hides them."""
    return torch.cat([pad(states, (0, 0, length - states.shape[2], 0)) for states in (first, second)])
