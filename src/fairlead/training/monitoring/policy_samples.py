"""Draws the policy's own answers during training and scores them under policy and reference.

The prompts are token rows of the pairs themselves, so the samples see exactly the form that the training sees. Every
answer has its own random stream, so looking changes nothing in the training and gives the same answers again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList

from fairlead.models.generation import GumbelNoise, end_tokens
from fairlead.records import content_id
from fairlead.training.trl_compat import adapter_in_use, reference_adapter, scored_log_probs, without_checkpointing

_ROWS_AT_ONCE = 32


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
        self._ends = end_tokens(self._model, self._tokenizer)
        self._start: list[Tensor] | None = None
        if trainer.ref_model is None and not isinstance(self._model, PeftModel):
            # Full weights have no reference left in memory once they move.
            self._start = [parameter.detach().clone() for parameter in self._model.parameters()]

    @property
    def _model(self) -> Any:
        return self._trainer.accelerator.unwrap_model(self._trainer.model, keep_fp32_wrapper=True)

    def draw(self, count: int, *, reference: bool = False, limit: int | None = None) -> list[list[int]]:
        """One answer to each of the first `count` prompts at temperature 1, the end token included.

        Args:
            reference: of the reference instead of the policy.
            limit: longest answer, if shorter than usual.
        """
        with self._looking(), self.reference() if reference else contextlib.nullcontext(self._model) as model:
            return generate_tokens(
                self._trainer.accelerator.unwrap_model(model),
                self.prompts[:count],
                ends=self._ends,
                pad=self._tokenizer.pad_token_id,
                limit=min(limit or self.max_new_tokens, self.max_new_tokens),
            )

    def ended(self, answer: Sequence[int]) -> bool:
        """Whether an answer ended by itself."""
        return bool(answer) and answer[-1] in self._ends

    def text(self, tokens: Sequence[int]) -> str:
        decoded: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return decoded

    def log_probs(self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> list[Tensor]:
        """[tokens] log π of each answer's tokens."""
        with self._looking():
            return self._score(self._trainer.model, prompts, answers)

    def reference_log_probs(self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> list[Tensor]:
        """[tokens] log π_ref of each answer's tokens."""
        with self._looking(), self.reference() as model:
            return self._score(model, prompts, answers)

    @contextlib.contextmanager
    def reference(self) -> Iterator[Any]:
        """The reference: a second model, an adapter of the policy, or the weights that the training began with."""
        trainer, policy = self._trainer, self._model
        if trainer.ref_model is not None:
            yield trainer.ref_model
        elif isinstance(policy, PeftModel):
            with adapter_in_use(policy, reference_adapter(policy)):
                yield trainer.model
        else:
            assert self._start is not None
            now = [parameter.data for parameter in policy.parameters()]
            try:
                _set(policy, self._start)
                yield trainer.model
            finally:
                _set(policy, now)

    def _score(self, model: Any, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> list[Tensor]:
        device = self._trainer.accelerator.device
        return answer_log_probs(model, prompts, answers, pad=self._tokenizer.pad_token_id, device=device)

    @contextlib.contextmanager
    def _looking(self) -> Iterator[None]:
        """Without dropout, gradients and checkpointing; the training goes on as it was."""
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


def generate_tokens(
    model: Any, prompts: Sequence[Sequence[int]], *, ends: set[int], pad: int, limit: int
) -> list[list[int]]:
    """One answer to each prompt at temperature 1, up to its end token, which is included.

    Args:
        prompts: token rows.
        limit: longest answer; one that reaches it has no end token.
    """
    answers: list[list[int]] = []
    for first in range(0, len(prompts), _ROWS_AT_ONCE):
        batch = prompts[first : first + _ROWS_AT_ONCE]
        longest = max(map(len, batch))
        ids = torch.tensor([[pad] * (longest - len(p)) + list(p) for p in batch])
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in batch])
        output = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=GenerationConfig(
                max_new_tokens=limit,
                do_sample=False,
                num_beams=1,
                repetition_penalty=1.0,  # the policy itself, not what its repository would make of it
                eos_token_id=sorted(ends),
                pad_token_id=pad,
            ),
            logits_processor=LogitsProcessorList([GumbelNoise([_seed(prompt) for prompt in batch])]),
        )
        answers += [_up_to_end(row, ends) for row in output[:, longest:].tolist()]
    return answers


def answer_log_probs(
    model: Any, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], *, pad: int, device: torch.device
) -> list[Tensor]:
    """[tokens] log-probability of each answer's tokens.

    Args:
        model: one whose forward takes `fused_lm_head=True`, as TRL's trainers and `share_prefixes` make it.
    """
    found: list[Tensor] = []
    for first in range(0, len(answers), _ROWS_AT_ONCE):
        part = slice(first, first + _ROWS_AT_ONCE)
        rows = [
            ([*prompt, *answer], [False] * len(prompt) + [True] * len(answer))
            for prompt, answer in zip(prompts[part], answers[part], strict=True)
        ]
        found += scored_log_probs(model, rows, pad_id=pad, device=device)
    return found


def _up_to_end(answer: list[int], ends: set[int]) -> list[int]:
    for position, token in enumerate(answer):
        if token in ends:
            return answer[: position + 1]
    return answer


def _set(model: Any, tensors: Sequence[Tensor]) -> None:
    for parameter, tensor in zip(model.parameters(), tensors, strict=True):
        parameter.data = tensor


def _seed(prompt: Sequence[int]) -> int:
    """Seed of a prompt's draw: the same in every look, so that looks differ by the policy alone."""
    return int(content_id("watch", list(prompt)), 16) % 2**63
