"""Decoding with a batch that stays full: a finished completion leaves it and the next prompt takes its place.

`generate` of transformers computes a batch until its longest completion ends, and every other row with it. Here the
rows that have ended are taken out of the key-value cache (`decoding/slots`), and waiting prompts are prefilled into the
free places. Completions of one prompt share its prefill, and what all prompts begin with is computed once
(`decoding/prefill`). Rows of different adapters share the batch.

Knows nothing of tokenizers, messages or model variants: tokens in, tokens out.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from fairlead.models import hardware
from fairlead.models.decoding.forward import Forward, decoding_forward
from fairlead.models.decoding.prefill import Prefill, Prompt, common_beginning
from fairlead.models.decoding.slots import Slots, States
from fairlead.models.loading import layer_configs
from fairlead.models.token_sampling import TokenChooser
from fairlead.records import Sampling

logger = logging.getLogger(__name__)

NO_ADAPTER = "__base__"
"""PEFT's name for rows of a mixed batch that no adapter touches."""

_ENTRY_SHARE = (
    8  # prompts enter when an eighth of the places is free: a forward of few tokens costs nearly as much as one of many
)

_MEMORY_SHARE = 0.4  # of the free memory that the rows' keys, values and logits may take
_BYTES_PER_LOGIT = 32  # the logits, their noise, and copies


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
    if "local" in (getattr(base.config, "attention_layers", None) or ()):  # GPT-Neo
        return "the windows of its local layers count the places of its cache"
    known = (DynamicLayer, DynamicSlidingWindowLayer)
    if any(type(layer) not in known for layer in DynamicCache(config=base.config).layers):
        return "some of its layers keep another state than keys and values"
    return None


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
        batch_size: rows decoded at once, at most: fewer where the free memory does not hold so many.
        eos_ids: token ids that end a completion.
        pad_id: token id that stands in padding; masked everywhere.
        finished: called with the number of completions that have ended since the last call.

    Raises:
        RuntimeError: if memory does not hold a single row.
    """
    if not requests:
        return []
    with decoding_forward(model, [request.adapter for request in requests]) as forward:
        width = min(batch_size, len(requests), _rows_in_memory(model, requests, forward.device))
        return _Decoding(forward, requests, width, eos_ids, pad_id, finished).run()


def _rows_in_memory(model: Any, requests: Sequence[DecodeRequest], on: torch.device) -> int:
    """How many rows as long as the longest possible one a share of the free memory holds."""
    config = model.config.get_text_config()
    tokens = max(len(request.prompt) + request.sampling.max_new_tokens for request in requests)
    row = tokens * _bytes_per_token(config, model.dtype) + config.vocab_size * _BYTES_PER_LOGIT
    budget = int(hardware.free_memory(on) * _MEMORY_SHARE)
    rows = max(1, int(budget // row))
    logger.info(
        "memory for %d rows at once: %.1f MiB each (%d tokens), %.1f GiB in all",
        rows,
        row / 2**20,
        tokens,
        budget / 2**30,
    )
    return rows


def _bytes_per_token(config: Any, dtype: torch.dtype) -> int:
    """Keys and values of one token in all layers."""
    values = 0
    for layer in layer_configs(config):
        heads = getattr(layer, "num_key_value_heads", None) or layer.num_attention_heads
        size = getattr(layer, "head_dim", None) or layer.hidden_size // layer.num_attention_heads
        values += 2 * heads * size
    return int(values * dtype.itemsize)


class _Decoding:
    """One run of `decode`."""

    def __init__(
        self,
        forward: Forward,
        requests: Sequence[DecodeRequest],
        width: int,
        eos_ids: set[int],
        pad_id: int,
        finished: Callable[[int], None],
    ) -> None:
        self._forward, self._requests, self._width = forward, requests, width
        self._eos_ids, self._finished = eos_ids, finished
        self._choose = TokenChooser([r.sampling for r in requests], [r.seed for r in requests])
        self._prefill = Prefill(forward, common_beginning([r.prompt for r in requests]), pad_id)
        self._completions: list[list[int]] = [[] for _ in requests]
        self._waiting = self._in_order(range(len(requests)))
        self._entering: list[int] = []
        self._batch = _Batch(forward, self._prefill)

    def run(self) -> list[list[int]]:
        told = False
        while self._waiting or self._batch.rows:
            try:
                self._advance()
            except (RuntimeError, MemoryError) as error:
                rows = len(self._batch.rows) + len(self._entering)
                if not hardware.is_out_of_memory(error) or rows < 2:
                    raise
                if not told:
                    logger.warning("memory does not hold %d rows at once: going on with fewer", rows)
                told = True
                self._start_again(rows // 2)
        return self._completions

    def _advance(self) -> None:
        """Lets prompts enter if there is room, and gives every row its next token."""
        batch, free = self._batch, self._width - len(self._batch.rows)
        if self._waiting and (not batch.rows or free >= max(1, self._width // _ENTRY_SHARE)):
            self._entering = [self._waiting.pop() for _ in range(min(free, len(self._waiting)))]
            following = self._prompt(self._waiting[-1]) if self._waiting else None
            batch.admit(self._entering, [self._prompt(row) for row in self._entering], following)
            self._entering = []
        tokens = self._choose(batch.logits, batch.rows)
        ended = []
        for row, token in zip(batch.rows, tokens.tolist(), strict=True):
            completion = self._completions[row]
            completion.append(token)
            ended.append(token in self._eos_ids or len(completion) >= self._requests[row].sampling.max_new_tokens)
        if any(ended):
            self._finished(sum(ended))
            tokens = tokens[batch.keep([place for place, over in enumerate(ended) if not over])]
        if batch.rows:
            batch.step(tokens)

    def _start_again(self, width: int) -> None:
        """With fewer rows; those under way are prefilled with what they have said."""
        rows = [*self._batch.rows, *self._entering]
        self._width, self._entering = width, []
        self._batch = _Batch(self._forward, self._prefill)
        self._waiting = self._in_order([*self._waiting, *rows])

    def _in_order(self, rows: Sequence[int]) -> list[int]:
        """Rows are taken from the end, the longest prompts first: those that enter together need little padding, and
        memory runs out at once or not at all. Completions of one prompt are neighbours."""
        prompts = {row: self._prompt(row) for row in rows}
        return sorted(rows, key=lambda row: (len(prompts[row].tokens), prompts[row].tokens, prompts[row].adapter or ""))

    def _prompt(self, row: int) -> Prompt:
        request = self._requests[row]
        return Prompt((*request.prompt, *self._completions[row]), request.adapter)


class _Batch:
    """The rows under way: their cache, and the logits of their next tokens.

    Attributes:
        rows: numbers of the requests, in the order of their places in the cache.
        logits: [rows, vocabulary] of their next tokens.
    """

    def __init__(self, forward: Forward, prefill: Prefill) -> None:
        self._forward, self._prefill = forward, prefill
        self._slots = Slots(forward.empty_cache(), forward.device)
        self._adapters: list[str | None] = []
        self._lengths = torch.zeros(0, dtype=torch.long)
        self._held: tuple[Prompt, States, Tensor] | None = None
        self.rows: list[int] = []
        self.logits = torch.empty(0)

    def admit(self, rows: Sequence[int], prompts: Sequence[Prompt], following: Prompt | None) -> None:
        """Prefills each distinct prompt once and puts the rows behind those under way.

        Args:
            following: the prompt that enters next. If it is among `prompts`, its prefill is kept.
        """
        held, self._held = self._held, None
        rows_of: dict[Prompt, list[int]] = {}
        for row, prompt in zip(rows, prompts, strict=True):
            rows_of.setdefault(prompt, []).append(row)
        if held is not None and held[0] in rows_of:
            self._enter([held[0]], held[1], held[2], rows_of, following)
            del rows_of[held[0]]
        new = list(rows_of)
        for part, states, logits in self._prefill(new):
            self._enter([new[n] for n in part], states, logits, rows_of, following)

    def _enter(
        self,
        prompts: Sequence[Prompt],
        states: States,
        logits: Tensor,
        rows_of: dict[Prompt, list[int]],
        following: Prompt | None,
    ) -> None:
        if following is not None and following in prompts:
            place = prompts.index(following)
            self._held = following, states.row(place), logits[place : place + 1].clone()
        places = [place for place, prompt in enumerate(prompts) for _ in rows_of[prompt]]
        self._slots.add(states, places)
        entering = [prompts[place] for place in places]
        self._adapters += [prompt.adapter for prompt in entering]
        self._lengths = torch.cat([self._lengths, torch.tensor([len(prompt.tokens) for prompt in entering])])
        self.logits = torch.cat([self.logits, logits[places]]) if self.rows else logits[places]
        self.rows += [row for prompt in prompts for row in rows_of[prompt]]

    def keep(self, places: Sequence[int]) -> list[int]:
        """Takes all other rows out; returns which place each row has come from."""
        order = self._slots.keep(places)
        self.rows = [self.rows[place] for place in order]
        self._adapters = [self._adapters[place] for place in order]
        self._lengths = self._lengths[order]
        return order

    def step(self, tokens: Tensor) -> None:
        """Feeds each row its next token."""
        self._slots.open_column()
        positions = self._lengths[:, None].to(self._forward.device)
        ids = tokens[:, None].to(self._forward.device)
        self.logits = self._forward(ids, self._slots.mask, positions, self._slots.cache, self._adapters)
        self._slots.close_column()
        self._lengths += 1
