"""The mean score under the probabilities of the token that holds it (G-Eval). Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence


def expected_score(tokens: Sequence[tuple[str, Sequence[tuple[str, float]]]], read: float) -> float:
    """Mean score under the probabilities of the token that holds the score that was read.

    Σ s·p(s) / Σ p(s) over the alternatives that are whole numbers from 1 to 10 (Liu et al. 2023, G-Eval, eq. 1), at the
    last token that is the score that was read. That score itself where no such token stands, where those alternatives
    hold less than half of the probability, or where the number spans several tokens ("1" and then "0"), because the
    mass of "1" would then contain that of "10".

    Args:
        tokens: each token of the reply with its alternatives and their natural log-probabilities.
    """
    place = next((n for n in reversed(range(len(tokens))) if _holds(tokens, n, read)), None)
    if place is None:
        return read
    mass: dict[int, float] = {}
    for token, logprob in tokens[place][1]:
        value = _whole(token)
        if value is not None:
            mass[value] = mass.get(value, 0.0) + math.exp(min(logprob, 0.0))
    total = sum(mass.values())
    return sum(value * p for value, p in mass.items()) / total if total >= 0.5 else read


def _holds(tokens: Sequence[tuple[str, object]], place: int, read: float) -> bool:
    """Whether a token is that number whole: no scale ("/10"), no decimals ("9.5"), no part of a longer one."""
    token = tokens[place][0]
    before = tokens[place - 1][0] if place and token[:1] != " " else ""
    after = tokens[place + 1][0] if place + 1 < len(tokens) else ""
    return _whole(token) == read and not before.endswith(("/", ".", *"0123456789")) and not after[:1].isdigit()


def _whole(token: str) -> int | None:
    text = token.strip(" \"':*{}[]\n")
    return int(text) if text.isascii() and text.isdigit() and 1 <= int(text) <= 10 else None
