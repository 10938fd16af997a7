"""Rows of general text, whose loss shows what a training forgets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from fairlead.data.reading.fields import prompt_and_answer
from fairlead.data.reading.rows import read_rows
from fairlead.errors import DataError
from fairlead.models.chat import conversation_tokens, prompt_tokens
from fairlead.records import Prompt

MOST_ROWS = 64

RetentionSet = Sequence[tuple[list[int], list[int]]]
"""(prompt tokens, answer tokens) of every row."""


def read_retention_set(path: Path, tokenizer: Any, max_length: int) -> list[tuple[list[int], list[int]]]:
    """The first rows {"prompt", "answer"} of a file, in the tokenizer's chat form.

    Args:
        max_length: longer rows are cut at the end; one whose prompt alone is that long is passed over.

    Raises:
        DataError: naming the line that is of another form, or if no row can be used.
    """
    rows = []
    for row in read_rows(path):
        text, answer = row.read(prompt_and_answer)
        prompt = prompt_tokens(Prompt.of(text), tokenizer)
        tokens = conversation_tokens(Prompt.of(text), answer, tokenizer)[:max_length]
        if len(tokens) > len(prompt):
            rows.append((prompt, tokens[len(prompt) :]))
        if len(rows) == MOST_ROWS:
            break
    if not rows:
        raise DataError("has no row that can be used", where=str(path), remedy="give short prompts with answers")
    return rows


def mean_loss(
    log_probs: Callable[[Sequence[Sequence[int]], Sequence[Sequence[int]]], list[Tensor]], rows: RetentionSet
) -> float:
    """Mean loss in nats per token of the rows' answers.

    Args:
        log_probs: of (prompts, answers), [tokens] log-probabilities of each answer.
    """
    scored = log_probs([prompt for prompt, _ in rows], [answer for _, answer in rows])
    return -sum(float(row.sum()) for row in scored) / sum(map(len, scored))
