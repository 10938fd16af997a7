"""Log-probabilities of answers given prompts, and of plain texts, under a model. Tokens in, nats out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerBase

from fairlead.errors import DataError
from fairlead.models.chat import conversation_tokens, prompt_tokens
from fairlead.models.decoding.forward import dense_head_input
from fairlead.records import Prompt

_LOGITS_AT_ONCE = 2**28  # numbers of float32, one GiB


@dataclass(frozen=True)
class Scored:
    """A row of tokens whose last `counted` ones are scored.

    Attributes:
        tokens: prompt and answer together.
        counted: how many tokens at the end are scored; fewer than all, because the first has no context.
        cut: whether the answer was longer and is cut.
    """

    tokens: tuple[int, ...]
    counted: int
    cut: bool = False


def answer_row(prompt: Prompt, answer: str, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Scored:
    """A prompt with its answer through the chat template, the end-of-turn token scored too, as DPO scores it.

    A row longer than `max_length` is cut at its end, as in training.

    Raises:
        DataError: if nothing of the answer is left.
        ModelError: if the chat template fails on the conversation.
    """
    taken = prompt_length(prompt, tokenizer)
    conversation = conversation_tokens(prompt, answer, tokenizer)
    tokens = tuple(conversation[:max_length])
    counted = len(tokens) - taken
    if counted < 1:
        raise DataError(
            f"the prompt takes {taken} of {max_length} tokens, so nothing of the answer is left",
            where=f"prompt {prompt.id} ({prompt.text[:60]!r})",
            remedy="raise max_length or drop the row",
        )
    return Scored(tokens, counted, cut=len(conversation) > max_length)


def prompt_length(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens of a prompt through the chat template, up to where the answer begins."""
    return len(prompt_tokens(prompt, tokenizer))


def text_rows(text: str, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Scored]:
    """A plain text in windows of at most `max_length` tokens; the first token of each window is context only."""
    ids = list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    if tokenizer.bos_token_id is not None:
        ids = [int(tokenizer.bos_token_id), *ids]
    windows = [ids[start : start + max_length] for start in range(0, len(ids) - 1, max_length - 1)]
    return [Scored(tuple(window), len(window) - 1) for window in windows]


def log_probs(
    model: Any,
    rows: Sequence[Scored],
    *,
    pad_id: int,
    batch_size: int,
    advance: Callable[[int], None] = lambda _: None,
) -> list[float]:
    """Σ log p of each row's scored tokens, in nats; arguments as in `token_log_probs`."""
    return [
        float(values.sum(dtype=torch.float64))
        for values in token_log_probs(model, rows, pad_id=pad_id, batch_size=batch_size, advance=advance)
    ]


@torch.no_grad()
def token_log_probs(
    model: Any,
    rows: Sequence[Scored],
    *,
    pad_id: int,
    batch_size: int,
    advance: Callable[[int], None] = lambda _: None,
) -> list[Tensor]:
    """log p of each row's scored tokens, (counted,) in float32 on the CPU.

    Args:
        model: a causal LM in evaluation mode.
        pad_id: token id of the padding, on the right, where causal attention cannot see it.
        batch_size: rows computed at once; fewer where their logits would take more than a GiB.
        advance: called with the number of finished rows after every batch.
    """
    values: list[Tensor] = [torch.empty(0)] * len(rows)
    for members in batches(rows, batch_size, vocabulary_size(model)):
        logits = answer_logits(model, [rows[n] for n in members], pad_id)
        for n, row_logits in zip(members, logits, strict=True):
            targets = torch.tensor(rows[n].tokens[-rows[n].counted :], device=row_logits.device)
            values[n] = -cross_entropy(row_logits, targets, reduction="none").cpu()
        advance(len(members))
    return values


def vocabulary_size(model: Any) -> int:
    """Logits per token."""
    return int(model.config.get_text_config().vocab_size)


def batches(rows: Sequence[Scored], batch_size: int, vocabulary: int) -> Iterator[list[int]]:
    """Numbers of rows of like length, the longest first; fewer where their padded logits would take more than a GiB."""
    order = sorted(range(len(rows)), key=lambda n: -len(rows[n].tokens))
    start = 0
    while start < len(order):
        fitting = _LOGITS_AT_ONCE // (vocabulary * len(rows[order[start]].tokens))
        members = order[start : start + max(1, min(batch_size, fitting))]
        yield members
        start += len(members)


@torch.no_grad()
def answer_logits(model: Any, rows: Sequence[Scored], pad_id: int) -> list[Tensor]:
    """Of each row the logits (counted, vocabulary), in float32, from which its scored tokens are drawn."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    device = next(base.parameters()).device
    length = max(len(row.tokens) for row in rows)
    ids = torch.tensor([[*row.tokens, *[pad_id] * (length - len(row.tokens))] for row in rows], device=device)
    mask = torch.tensor([[1] * len(row.tokens) + [0] * (length - len(row.tokens)) for row in rows], device=device)
    first = min(len(row.tokens) - row.counted for row in rows) - 1
    sliced = "logits_to_keep" in inspect.signature(base.forward).parameters
    extra = {"logits_to_keep": length - first} if sliced else {}
    # From the right, because adapters of virtual tokens put those before the row.
    with dense_head_input(base):
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False, **extra).logits[:, first - length :]
    # Copies, so that whoever keeps them does not keep the other rows' logits too.
    return [
        logits[number, len(row.tokens) - row.counted - 1 - first : len(row.tokens) - 1 - first].to(
            torch.float32, copy=True
        )
        for number, row in enumerate(rows)
    ]
