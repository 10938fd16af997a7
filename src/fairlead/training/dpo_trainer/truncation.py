"""Finds tokenised pairs from which nothing can be learned after truncation."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fairlead.errors import TrainingError, some

logger = logging.getLogger(__name__)


def completion_left(prompt: Sequence[int], completion: Sequence[int], max_length: int | None, mode: str) -> list[int]:
    """The tokens of a completion that remain when prompt and completion together are cut to `max_length`.

    Args:
        mode: "keep_start" cuts at the end, "keep_end" at the beginning, as TRL's collator does.
    """
    if max_length is None:
        return list(completion)
    if mode == "keep_end":
        return list(completion[-max_length:])
    return list(completion[: max(max_length - len(prompt), 0)])


def why_unusable(row: Mapping[str, Any], max_length: int | None, mode: str = "keep_start") -> str | None:
    """Why nothing can be learnt from a tokenised pair once it is cut: "empty" or "equal"; None if something can."""
    chosen, rejected = (
        completion_left(row["prompt_ids"], row[name], max_length, mode) for name in ("chosen_ids", "rejected_ids")
    )
    if not chosen or not rejected:
        return "empty"
    return "equal" if chosen == rejected else None


def report_dropped(rows: Sequence[int], pairs: int, *, max_dropped: float | None, max_length: int | None) -> None:
    """Warns of the pairs that were dropped, and refuses to train without too many of them.

    Args:
        rows: numbers of the dropped pairs.
        pairs: how many pairs there were.
        max_dropped: largest share of them that may be dropped; None for any, as long as some are left.

    Raises:
        TrainingError: if more are dropped, or all.
    """
    if not rows:
        return
    cut = f" once cut to {max_length} tokens" if max_length is not None else ""
    what = f"{len(rows)} of {pairs} pairs are empty or equal{cut} (rows {some(rows)})"
    allowed = 1.0 if max_dropped is None else max_dropped
    if len(rows) <= allowed * pairs and len(rows) < pairs:
        logger.warning("%s: dropped", what)
        return
    limit = "none is left" if len(rows) == pairs else f"max_dropped allows {allowed:.1%}"
    raise TrainingError(
        f"{what}, {limit}",
        where="dpo.max_length",
        remedy="raise dpo.max_length, shorten the prompts, or raise dpo.max_dropped"
        if len(rows) < pairs
        else "raise dpo.max_length, or shorten the prompts",
    )
