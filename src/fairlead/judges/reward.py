"""A reward model as judge: a sequence classifier with one output, trained on comparisons."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, TypeVar

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from fairlead.config.judges import LocalSettings
from fairlead.errors import ModelError
from fairlead.models import hardware
from fairlead.models.chat import conversation_tokens
from fairlead.records import Answer, Comparison, Prompt, Score, ScoreState, Verdict, VerdictState

T = TypeVar("T")


class RewardJudge:
    """Prefers the answer of the higher reward.

    A reward has no scale of its own; as a score from 1 to 10 it is 1 + 9·σ(reward), which keeps the order and
    puts a reward of 0 in the middle (Bradley & Terry 1952: σ of a difference is the probability of preferring it).

    Its weights are loaded when the first text is judged.
    """

    def __init__(self, settings: LocalSettings, where: str, identity: str) -> None:
        self.name = f"reward:{identity}"
        self._settings, self._where = settings, where

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        """Tokenizer and model.

        Raises:
            ModelError: if they cannot be loaded.
        """
        on = hardware.device()
        try:
            tokenizer = AutoTokenizer.from_pretrained(self._where, trust_remote_code=False)
            model: Any = AutoModelForSequenceClassification.from_pretrained(
                self._where, dtype=hardware.resolve_dtype("auto", on), use_safetensors=True, trust_remote_code=False
            )
        except (OSError, ValueError) as error:
            raise ModelError(f"cannot be loaded: {str(error).splitlines()[0][:200]}", where=self._where) from error
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        model.config.pad_token_id = tokenizer.pad_token_id
        return tokenizer, model.to(on).eval()

    def compare(self, items: Iterable[Comparison]) -> Iterator[Verdict]:
        for batch in _batches(items, self._settings.batch_size):
            rewards = self._rewards([(c.prompt, text) for c in batch for text in (c.first, c.second)])
            for number, item in enumerate(batch):
                yield self._verdict(item, rewards[2 * number], rewards[2 * number + 1])

    def _verdict(self, item: Comparison, first: float | None, second: float | None) -> Verdict:
        if first is None or second is None:
            return Verdict(item.id, VerdictState.FAILED, self.name, reason="too long for the reward model")
        margin, reason = abs(first - second), f"rewards {first:.3f} and {second:.3f}"
        if margin <= self._settings.tie_margin:
            state = VerdictState.TIE
        else:
            state = VerdictState.WIN if first > second else VerdictState.LOSS
        return Verdict(item.id, state, self.name, margin=margin, reason=reason)

    def score(self, items: Iterable[Answer]) -> Iterator[Score]:
        for batch in _batches(items, self._settings.batch_size):
            for item, reward in zip(batch, self._rewards([(a.prompt, a.text) for a in batch]), strict=True):
                if reward is None:
                    yield Score(item.id, ScoreState.FAILED, self.name, reason="too long for the reward model")
                    continue
                value = 1 + 9 / (1 + math.exp(-max(min(reward, 700.0), -700.0)))
                yield Score(item.id, ScoreState.SCORED, self.name, value=value, reason=f"reward {reward:.3f}")

    @torch.inference_mode()
    def _rewards(self, texts: Sequence[tuple[Prompt, str]]) -> list[float | None]:
        """The reward of each (prompt, answer); None where it does not fit into the model's context."""
        tokenizer, model = self._loaded
        rows = [_encode(tokenizer, prompt, answer) for prompt, answer in texts]
        limit = getattr(model.config, "max_position_embeddings", None) or math.inf
        fitting = [n for n, row in enumerate(rows) if 0 < len(row) <= limit]
        rewards: list[float | None] = [None] * len(rows)
        if fitting:
            batch = tokenizer.pad({"input_ids": [rows[n] for n in fitting]}, padding_side="right", return_tensors="pt")
            output = model(**{key: value.to(model.device) for key, value in batch.items()})
            for n, value in zip(fitting, output.logits[:, 0].float().tolist(), strict=True):
                rewards[n] = value if math.isfinite(value) else None
        return rewards


def _encode(tokenizer: Any, prompt: Prompt, answer: str) -> list[int]:
    if tokenizer.chat_template:
        return conversation_tokens(prompt, answer, tokenizer)
    ids: list[int] = tokenizer(f"{prompt.text}\n{answer}")["input_ids"]
    return ids


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
