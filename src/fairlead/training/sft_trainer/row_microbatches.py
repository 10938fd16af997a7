"""A batch of SFT rows in microbatches; the loss is a mean over scored tokens, so each weighs by its share of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from fairlead.training.microbatches import Group, Microbatch, fill
from fairlead.training.shared_prefix.layout import IGNORED

_TENSORS = {"input_ids", "attention_mask", "labels"}


def split(inputs: Mapping[str, Any], max_tokens: float) -> list[Microbatch]:
    """The batch in microbatches of about `max_tokens` computed tokens (`microbatches.fill`); equal rows stay together.

    Args:
        inputs: TRL's batch: `input_ids`, `attention_mask` and `labels`, [B, T] each. A batch with anything else, padded
            on the left, or with a row that has no scored token, is left whole.
    """
    small = max_tokens == math.inf or int(inputs["attention_mask"].sum()) <= max_tokens  # sharing makes it smaller
    if small or set(inputs) != _TENSORS or not bool(inputs["attention_mask"][:, 0].all()):
        return [Microbatch(dict(inputs))]
    scored = (inputs["labels"][:, 1:] != IGNORED).sum(dim=1)
    if not bool(scored.all()):
        return [Microbatch(dict(inputs))]
    parts = fill(_equal_rows(inputs), max_tokens)
    if len(parts) == 1:
        return [Microbatch(dict(inputs))]
    return [Microbatch(_take(inputs, rows), weight=int(scored[rows].sum()) / int(scored.sum())) for rows in parts]


def _equal_rows(inputs: Mapping[str, Any]) -> list[Group]:
    """Rows of the same tokens, sorted by them; the last token of a row is not computed."""
    ends = (inputs["attention_mask"].sum(dim=1) - 1).tolist()
    prompts = (inputs["labels"] != IGNORED).int().argmax(dim=1).tolist()
    rows: dict[tuple[int, ...], list[int]] = {}
    for number, (ids, end) in enumerate(zip(inputs["input_ids"].tolist(), ends, strict=True)):
        rows.setdefault(tuple(ids[:end]), []).append(number)
    return [
        Group(np.array(tokens, dtype=np.int64), min(prompts[row] for row in members), len(tokens), tuple(members))
        for tokens, members in sorted(rows.items())
    ]


def _take(inputs: Mapping[str, Tensor], rows: list[int]) -> dict[str, Any]:
    """The batch of some rows, cut to its own longest one."""
    longest = int(inputs["attention_mask"][rows].sum(dim=1).max())
    return {name: values[rows, :longest] for name, values in inputs.items()}
