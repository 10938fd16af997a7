"""What truncation leaves of a tokenised pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


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


def fault(row: Mapping[str, Any], max_length: int | None, mode: str = "keep_start") -> str | None:
    """Why a tokenised pair teaches nothing once it is cut: empty or equal; None if it teaches something."""
    chosen, rejected = (
        completion_left(row["prompt_ids"], row[name], max_length, mode) for name in ("chosen_ids", "rejected_ids")
    )
    if not chosen or not rejected:
        return "empty"
    return "equal" if chosen == rejected else None
