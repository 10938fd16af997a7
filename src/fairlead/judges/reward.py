"""A reward model as judge: a sequence classifier with one output, trained on comparisons."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from fairlead.errors import ModelError
from fairlead.judges.settings import LocalSettings
from fairlead.models import hardware
from fairlead.records import Answer, Comparison, Prompt, Score, ScoreState, Verdict, VerdictState

T = TypeVar("T")


class RewardJudge:
    """Prefers the answer of the higher reward.

    A reward has no scale of its own; as a score from 1 to 10 it is 1 + 9·σ(reward), which keeps the order and
    puts a reward of 0 in the middle (Bradley & Terry 1952: σ of a difference is the probability of preferring it).

    Raises:
        ModelError: if it cannot be loaded or has more than one output.
    """

    def __init__(self, settings: LocalSettings, where: str, identity: str) -> None:
        self.name = f"reward:{identity}"
        self._settings = settings
        on = hardware.device()
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(where)
            self._model: Any = AutoModelForSequenceClassification.from_pretrained(
                where, dtype=hardware.resolve_dtype("auto", on), use_safetensors=True
            )
        except (OSError, ValueError) as error:
            raise ModelError(f"cannot be loaded: {str(error).splitlines()[0][:200]}", where=where) from error
        if self._model.config.num_labels != 1:
            raise ModelError(
                f"has {self._model.config.num_labels} outputs, a reward model has one",
                where=where,
                remedy="use a causal LM, or a classifier trained with num_labels=1",
            )
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._model.config.pad_token_id = self._tokenizer.pad_token_id
        self._model.to(on).eval()

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
        rows = [self._encode(prompt, answer) for prompt, answer in texts]
        limit = getattr(self._model.config, "max_position_embeddings", None) or math.inf
        fitting = [n for n, row in enumerate(rows) if 0 < len(row) <= limit]
        rewards: list[float | None] = [None] * len(rows)
        if fitting:
            batch = self._tokenizer.pad(
                {"input_ids": [rows[n] for n in fitting]}, padding_side="right", return_tensors="pt"
            )
            output = self._model(**{key: value.to(self._model.device) for key, value in batch.items()})
            for n, value in zip(fitting, output.logits[:, 0].float().tolist(), strict=True):
                rewards[n] = value if math.isfinite(value) else None
        return rewards

    def _encode(self, prompt: Prompt, answer: str) -> list[int]:
        messages = [{"role": m.role, "content": m.content} for m in prompt.messages]
        if self._tokenizer.chat_template:
            turns = [*messages, {"role": "assistant", "content": answer}]
            encoded = self._tokenizer.apply_chat_template(turns, tokenize=True, return_dict=True)
        else:
            encoded = self._tokenizer(f"{prompt.text}\n{answer}")
        ids: list[int] = encoded["input_ids"]
        return ids


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
