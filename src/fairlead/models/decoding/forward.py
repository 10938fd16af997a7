"""A model's forward for decoding: logits of the last token of every row, whatever adapters the rows have."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from peft import PeftModel
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from fairlead.models.decoding.grouped_attention import grouped_decoding
from fairlead.models.decoding.stacked_adapters import StackedAdapters, stacked_adapters


class Forward:
    """The forward of one model within `decoding_forward`."""

    def __init__(self, model: Any, adapters: StackedAdapters | None) -> None:
        self._model, self._adapters = model, adapters
        self._base = model.get_base_model() if isinstance(model, PeftModel) else model
        self._last_only = "logits_to_keep" in inspect.signature(self._base.forward).parameters
        self.device = next(self._base.parameters()).device

    def empty_cache(self) -> DynamicCache:
        """A cache that keeps the keys and values of all tokens, in layers with a sliding window too.

        A layer that forgets what has left its window holds as many places for every row, whatever their lengths, so
        rows could not be joined or padding cut. Kept whole, the mask alone hides what is outside the window (or the
        chunk): transformers makes it from places in the cache, which within a row are as far apart as the tokens.
        """
        cache = DynamicCache(config=self._base.config)
        cache.layers = [DynamicLayer() for _ in cache.layers]
        return cache

    def keeps_all_tokens(self) -> bool:
        """Whether every layer attends to all tokens before, so that padding may stand anywhere between them."""
        return all(type(layer) is DynamicLayer for layer in DynamicCache(config=self._base.config).layers)

    def __call__(
        self, ids: Tensor, mask: Tensor, positions: Tensor, cache: DynamicCache, adapters: Sequence[str | None]
    ) -> Tensor:
        """[rows, vocabulary] float32 logits after the last token of every row.

        Args:
            ids, positions: [rows, new tokens].
            mask: [rows, columns of the cache], true where there is a token, the new ones included.
            adapters: of every row; None for all of them: the model as it is.
        """
        extra: dict[str, Any] = {"logits_to_keep": 1} if self._last_only else {}
        names = [name for name in adapters if name is not None]
        if self._adapters is not None:
            self._adapters.choose(names or None)
        elif names:
            extra["adapter_names"] = names
        output = self._model(
            input_ids=ids,
            attention_mask=mask.long(),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            **extra,
        )
        logits: Tensor = output.logits[:, -1].float()
        return logits


@contextmanager
def decoding_forward(model: Any, adapters: Sequence[str | None]) -> Iterator[Forward]:
    """Prepares a model for decoding within the block.

    Args:
        model: a causal LM in evaluation mode; a PEFT model where adapters are named.
        adapters: those that rows will have.
    """
    names = sorted({name for name in adapters if name is not None}) or None
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    with grouped_decoding(base), dense_head_input(base), stacked_adapters(model, names) as stacked:
        yield Forward(model, stacked)


@contextmanager
def dense_head_input(base: Any) -> Iterator[None]:
    """Hands the language-model head dense hidden states within the block.

    Hidden states of some tokens of several rows are a view with gaps, for which PyTorch's linear function on a CPU
    copies the weights of the head once for every row.
    """
    head = base.get_output_embeddings()
    if head is None:
        yield
        return
    handle = head.register_forward_pre_hook(lambda _, args: (args[0].contiguous(), *args[1:]))
    try:
        yield
    finally:
        handle.remove()
