"""Log-probabilities of answers given prompts, and of plain texts, under a model. Tokens in, nats out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerBase

from fairlead.errors import DataError
from fairlead.records import Prompt


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
    """
    taken = prompt_length(prompt, tokenizer)
    whole = tokenizer.apply_chat_template(
        [*_turns(prompt), {"role": "assistant", "content": answer}], tokenize=True, return_dict=True
    )
    tokens = tuple(whole["input_ids"][:max_length])
    counted = len(tokens) - taken
    if counted < 1:
        raise DataError(
            f"the prompt takes {taken} of {max_length} tokens, so nothing of the answer is left",
            where=f"prompt {prompt.id} ({prompt.text[:60]!r})",
            remedy="raise max_length or drop the row",
        )
    return Scored(tokens, counted, cut=len(whole["input_ids"]) > max_length)


def prompt_length(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens of a prompt through the chat template, up to where the answer begins."""
    start = tokenizer.apply_chat_template(_turns(prompt), tokenize=True, add_generation_prompt=True, return_dict=True)
    return len(start["input_ids"])


def _turns(prompt: Prompt) -> list[dict[str, str]]:
    return [{"role": m.role, "content": m.content} for m in prompt.messages]


def text_rows(text: str, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Scored]:
    """A plain text in windows of at most `max_length` tokens; the first token of each window is context only."""
    ids = list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    if tokenizer.bos_token_id is not None:
        ids = [int(tokenizer.bos_token_id), *ids]
    windows = [ids[start : start + max_length] for start in range(0, len(ids) - 1, max_length - 1)]
    return [Scored(tuple(window), len(window) - 1) for window in windows]


@torch.inference_mode()
def logprobs(
    model: Any, rows: Sequence[Scored], *, filler: int, batch_size: int, advance: Callable[[int], None]
) -> list[float]:
    """Σ log p of each row's scored tokens, in nats.

    Args:
        model: a causal LM in evaluation mode.
        filler: token id of the padding, on the right, where causal attention cannot see it.
        advance: called with the number of finished rows after every batch.
    """
    found = [0.0] * len(rows)
    order = sorted(range(len(rows)), key=lambda n: -len(rows[n].tokens))
    for start in range(0, len(order), batch_size):
        members = order[start : start + batch_size]
        for n, value in zip(members, _batch(model, [rows[n] for n in members], filler), strict=True):
            found[n] = value
        advance(len(members))
    return found


def _batch(model: Any, rows: Sequence[Scored], filler: int) -> list[float]:
    logits = answer_logits(model, rows, filler)
    return [
        -float(cross_entropy(own, torch.tensor(row.tokens[-row.counted :], device=own.device), reduction="sum"))
        for own, row in zip(logits, rows, strict=True)
    ]


@torch.inference_mode()
def answer_logits(model: Any, rows: Sequence[Scored], filler: int) -> list[Tensor]:
    """Of each row the logits (counted, vocabulary), in float32, from which its scored tokens are drawn."""
    device = next(model.parameters()).device
    length = max(len(row.tokens) for row in rows)
    ids = torch.tensor([[*row.tokens, *[filler] * (length - len(row.tokens))] for row in rows], device=device)
    mask = torch.tensor([[1] * len(row.tokens) + [0] * (length - len(row.tokens)) for row in rows], device=device)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    # Copies, so that whoever keeps them does not keep the prompts' logits too.
    return [
        logits[number, len(row.tokens) - row.counted - 1 : len(row.tokens) - 1].to(torch.float32, copy=True)
        for number, row in enumerate(rows)
    ]
