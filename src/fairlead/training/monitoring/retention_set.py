"""Rows of general use, whose loss shows what a training forgets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from fairlead.data.fields import prompt_and_answer
from fairlead.data.rows import read_rows
from fairlead.errors import DataError

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
        prompt_text, answer = row.read(prompt_and_answer)
        asked = [{"role": "user", "content": prompt_text}]
        answered = [*asked, {"role": "assistant", "content": answer}]
        before = tokenizer.apply_chat_template(asked, tokenize=True, add_generation_prompt=True, return_dict=True)
        whole = tokenizer.apply_chat_template(answered, tokenize=True, return_dict=True)["input_ids"][:max_length]
        prompt = list(before["input_ids"])
        if len(whole) > len(prompt):
            rows.append((prompt, list(whole[len(prompt) :])))
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
