"""Decoding with a batch that stays full: a finished answer leaves it and the next prompt takes its place.

`generate` of transformers computes a batch until its longest answer ends, and every other row with it. Here the rows
that have ended are taken out of the key-value cache, padding that no row needs any more is cut off, and waiting prompts
are prefilled into the free places. Rows of different adapters share the batch.

Knows nothing of tokenizers, prompts, seeds or views: tokens in, tokens out.
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
from transformers.cache_utils import DynamicLayer

NO_ADAPTER = "__base__"
"""PEFT's name for rows of a mixed batch that no adapter touches."""

_CHANGE_SHARE = 8  # the batch is rebuilt when an eighth of its places is free: each rebuild copies the cache


@dataclass(frozen=True)
class Job:
    """One answer to decode.

    Attributes:
        prompt: token ids.
        most: new tokens at most.
        adapter: the adapter that answers, `NO_ADAPTER` for none.
    """

    prompt: Sequence[int]
    most: int
    adapter: str = NO_ADAPTER


Choose = Callable[[Tensor, Sequence[int]], Tensor]
"""Next tokens (rows,) from logits (rows, vocabulary) in float32 and the rows' job numbers."""


def keeps_full(model: Any) -> bool:
    """Whether rows of this model can leave and enter a batch: positions are given and every cache layer grows plainly.

    Sliding windows, recurrent states, layers that share a cache and position-free models cannot be cut by rows.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    if "position_ids" not in inspect.signature(base.forward).parameters or base.config.is_encoder_decoder:
        return False
    if getattr(base, "_is_stateful", False) or getattr(base.config.get_text_config(), "num_kv_shared_layers", 0):
        return False
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=base.config).layers)


@torch.inference_mode()
def decode(
    model: Any,
    jobs: Sequence[Job],
    *,
    width: int,
    ends: set[int],
    filler: int,
    choose: Choose,
    finished: Callable[[int], None],
) -> list[list[int]]:
    """New tokens of every job, the end token included.

    Args:
        model: a causal LM in evaluation mode for which `keeps_full` holds; a PEFT model where jobs name adapters.
        width: rows in the batch.
        ends: token ids that end an answer.
        filler: token id that stands in padding; masked everywhere.
        finished: called with the number of answers that have ended since the last call.
    """
    batch = _Batch(model, jobs, filler)
    # Taken from the end, the longest first: rows that enter together need little padding, and memory runs out at once
    # or not at all.
    waiting = sorted(range(len(jobs)), key=lambda n: len(jobs[n].prompt))
    answers: list[list[int]] = [[] for _ in jobs]
    while waiting or batch.rows:
        free = width - len(batch.rows)
        if waiting and (not batch.rows or free >= max(1, width // _CHANGE_SHARE)):
            entering = [waiting.pop() for _ in range(min(free, len(waiting)))]
            batch.admit(entering)
        tokens = choose(batch.logits, batch.rows)
        ended = []
        for row, token in zip(batch.rows, tokens.tolist(), strict=True):
            answers[row].append(token)
            ended.append(token in ends or len(answers[row]) >= jobs[row].most)
        if any(ended):
            finished(sum(ended))
            staying = [place for place, over in enumerate(ended) if not over]
            batch.keep(staying)
            tokens = tokens[staying]
        if batch.rows:
            batch.step(tokens)
    return answers


class _Batch:
    """The rows under way: their cache, which of its places are padding, and the logits of their next tokens.

    `mask` is (rows, length) with 1 where the cache holds a token; rows end at the right, padding is on the left.
    """

    def __init__(self, model: Any, jobs: Sequence[Job], filler: int) -> None:
        self._model, self._jobs, self._filler = model, jobs, filler
        self._base = model.get_base_model() if isinstance(model, PeftModel) else model
        self._device = next(self._base.parameters()).device
        self._last_only = "logits_to_keep" in inspect.signature(self._base.forward).parameters
        self._cache = self._empty()
        self._mask = torch.zeros(0, 0, dtype=torch.long, device=self._device)
        self.rows: list[int] = []
        self.logits = torch.empty(0)

    def _empty(self) -> DynamicCache:
        return DynamicCache(config=self._base.config)

    def admit(self, rows: Sequence[int]) -> None:
        """Prefills `rows` and joins them to those under way, all padded on the left to one length."""
        prompts = [list(self._jobs[row].prompt) for row in rows]
        length = max(map(len, prompts))
        ids = torch.tensor([[self._filler] * (length - len(p)) + p for p in prompts], device=self._device)
        mask = torch.tensor([[0] * (length - len(p)) + [1] * len(p) for p in prompts], device=self._device)
        cache = self._empty()
        logits = self._forward(ids, mask, (mask.cumsum(-1) - 1).clamp(min=0), cache, rows)
        if not self.rows:
            self.rows, self.logits, self._cache, self._mask = list(rows), logits, cache, mask
            return
        longest = max(length, self._mask.shape[1])
        for old, new in zip(self._cache.layers, cache.layers, strict=True):
            old.keys = torch.cat([_pad_left(old.keys, longest), _pad_left(new.keys, longest)])
            old.values = torch.cat([_pad_left(old.values, longest), _pad_left(new.values, longest)])
        masks = [pad(m, (longest - m.shape[1], 0)) for m in (self._mask, mask)]
        self._mask = torch.cat(masks)
        self.rows += rows
        self.logits = torch.cat([self.logits, logits])

    def keep(self, places: Sequence[int]) -> None:
        """Takes all other rows out, and the padding that only they needed."""
        self.rows = [self.rows[place] for place in places]
        self.logits = self.logits[places]
        if not places:
            return
        index = torch.tensor(places, device=self._device)
        mask = self._mask[index]
        unused = int((mask.sum(0) == 0).to(torch.long).cumprod(0).sum())
        self._mask = mask[:, unused:]
        for layer in self._cache.layers:
            layer.keys = layer.keys[index, :, unused:]
            layer.values = layer.values[index, :, unused:]

    def step(self, tokens: Tensor) -> None:
        """Feeds each row its next token."""
        positions = self._mask.sum(-1, keepdim=True)
        self._mask = torch.cat([self._mask, torch.ones_like(positions)], dim=1)
        self.logits = self._forward(tokens[:, None], self._mask, positions, self._cache, self.rows)

    def _forward(
        self, ids: Tensor, mask: Tensor, positions: Tensor, cache: DynamicCache, rows: Sequence[int]
    ) -> Tensor:
        extra: dict[str, Any] = {"logits_to_keep": 1} if self._last_only else {}
        if isinstance(self._model, PeftModel):
            extra["adapter_names"] = [self._jobs[row].adapter for row in rows]
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


def _pad_left(states: Tensor, length: int) -> Tensor:
    """(rows, heads, tokens, size) with zeros before the tokens; the mask hides them."""
    return pad(states, (0, 0, length - states.shape[2], 0))
