"""Rows of general use, whose loss shows what a training forgets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fairlead.data.fields import prompt_and_answer
from fairlead.data.rows import read_rows
from fairlead.errors import DataError

MOST_ROWS = 64


def read_general(path: Path, tokenizer: Any, max_length: int) -> list[tuple[list[int], list[int]]]:
    """(prompt tokens, answer tokens) of the first rows {"prompt", "answer"} of a file, in the tokenizer's chat form.

    Args:
        max_length: longer rows are cut at the end; one whose prompt alone is that long is passed over.

    Raises:
        DataError: naming the line that is of another form, or if no row can be used.
    """
    found = []
    for row in read_rows(path):
        prompt_text, answer = row.read(prompt_and_answer)
        asked = [{"role": "user", "content": prompt_text}]
        answered = [*asked, {"role": "assistant", "content": answer}]
        before = tokenizer.apply_chat_template(asked, tokenize=True, add_generation_prompt=True, return_dict=True)
        whole = tokenizer.apply_chat_template(answered, tokenize=True, return_dict=True)["input_ids"][:max_length]
        prompt = list(before["input_ids"])
        if len(whole) > len(prompt):
            found.append((prompt, list(whole[len(prompt) :])))
        if len(found) == MOST_ROWS:
            break
    if not found:
        raise DataError("has no row that can be used", where=str(path), remedy="give short prompts with answers")
    return found
