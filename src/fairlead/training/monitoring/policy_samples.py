"""Draws the policy's own answers during training and scores them under policy and reference.

The prompts are token rows of the pairs themselves, so the samples see exactly the form that the training sees. Every
answer has its own random stream, so drawing changes nothing in the training and gives the same answers again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor

from fairlead.models.continuous_batching import DecodeRequest
from fairlead.models.generation import eos_token_ids, generate_tokens
from fairlead.models.kl import answer_kls
from fairlead.models.log_probs import Scored, token_log_probs
from fairlead.records import Sampling, content_id
from fairlead.training.trl_compat import adapter_in_use, reference_adapter, without_checkpointing

_ROWS_AT_ONCE = 32
_HELD_LOGITS = 2**27  # half a GiB: optimiser and gradients lie in memory too, and changing to the reference is quick


class PolicySamples:
    """The policy of a `DPOTrainer` and its reference, for drawing and scoring.

    Args:
        trainer: a `fairlead.DPOTrainer`, before its first step.
        prompts: token rows that end where the answer begins.
        max_new_tokens: longest answer.
    """

    def __init__(self, trainer: Any, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
        self._trainer, self.prompts, self.max_new_tokens = trainer, [list(p) for p in prompts], max_new_tokens
        self._tokenizer = trainer.tokenizer
        self._ends = eos_token_ids(self._model, self._tokenizer)
        self._start: list[Tensor] | None = None
        if trainer.ref_model is None and not isinstance(self._model, PeftModel):
            # Full weights have no reference left in memory once they move.
            self._start = [parameter.detach().clone() for parameter in self._model.parameters()]

    @property
    def _model(self) -> Any:
        return self._unwrapped(self._trainer.model)

    def _unwrapped(self, model: Any) -> Any:
        return self._trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=True)

    def draw(self, count: int, *, reference: bool = False, limit: int | None = None) -> list[list[int]]:
        """One answer to each of the first `count` prompts at temperature 1, the end token included.

        Args:
            reference: of the reference instead of the policy.
            limit: longest answer, if shorter than usual.
        """
        with self._sampling_mode(), self.reference() if reference else self.policy() as model:
            sampling = Sampling(1.0, 1.0, min(limit or self.max_new_tokens, self.max_new_tokens))
            return generate_tokens(
                model,
                [DecodeRequest(prompt, sampling, sample_seed(prompt)) for prompt in self.prompts[:count]],
                batch_size=_ROWS_AT_ONCE,
                eos_ids=self._ends,
                pad_id=self._tokenizer.pad_token_id,
            )

    def ended(self, answer: Sequence[int]) -> bool:
        """Whether an answer ended by itself."""
        return bool(answer) and answer[-1] in self._ends

    def text(self, tokens: Sequence[int]) -> str:
        decoded: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return decoded

    def log_probs(self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> list[Tensor]:
        """[tokens] log π of each answer's tokens."""
        with self._sampling_mode(), self.policy() as model:
            return self._score(model, prompts, answers)

    def reference_log_probs(self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> list[Tensor]:
        """[tokens] log π_ref of each answer's tokens."""
        with self._sampling_mode(), self.reference() as model:
            return self._score(model, prompts, answers)

    def kls(self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> list[float]:
        """KL(π ‖ π_ref) of each of the policy's own answers, in nats; see `models.kl`."""
        with self._sampling_mode():
            return answer_kls(
                self.policy,
                self.reference,
                _rows(prompts, answers),
                pad_id=self._tokenizer.pad_token_id,
                batch_size=_ROWS_AT_ONCE,
                held_logits=_HELD_LOGITS,
            )

    def policy(self) -> AbstractContextManager[Any]:
        """The policy as it is now."""
        return contextlib.nullcontext(self._model)

    @contextlib.contextmanager
    def reference(self) -> Iterator[Any]:
        """The reference: a second model, an adapter of the policy, or the weights that the training began with."""
        trainer, policy = self._trainer, self._model
        if trainer.ref_model is not None:
            yield self._unwrapped(trainer.ref_model)
        elif isinstance(policy, PeftModel):
            with adapter_in_use(policy, reference_adapter(policy)):
                yield policy
        else:
            assert self._start is not None
            now = [parameter.data for parameter in policy.parameters()]
            try:
                _set(policy, self._start)
                yield policy
            finally:
                _set(policy, now)

    def _score(self, model: Any, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> list[Tensor]:
        rows, pad_id = _rows(prompts, answers), self._tokenizer.pad_token_id
        return token_log_probs(model, rows, pad_id=pad_id, batch_size=_ROWS_AT_ONCE)

    @contextlib.contextmanager
    def _sampling_mode(self) -> Iterator[None]:
        """Switches dropout, gradients and checkpointing off, and restores them afterwards."""
        trainer = self._trainer
        training = trainer.model.training
        trainer.model.eval()
        try:
            with (
                torch.no_grad(),
                without_checkpointing(trainer.model, trainer.args.gradient_checkpointing_kwargs),
                trainer.accelerator.autocast(),
            ):
                yield
        finally:
            trainer.model.train(training)


def _rows(prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> list[Scored]:
    return [Scored((*prompt, *answer), len(answer)) for prompt, answer in zip(prompts, answers, strict=True)]


def _set(model: Any, tensors: Sequence[Tensor]) -> None:
    for parameter, tensor in zip(model.parameters(), tensors, strict=True):
        parameter.data = tensor


def sample_seed(prompt: Sequence[int]) -> int:
    """Seed of a prompt's draw: the same in every sample check, so that checks differ by the policy alone."""
    return int(content_id("watch", list(prompt)), 16) % 2**63
