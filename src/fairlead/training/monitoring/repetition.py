"""Repetition and variety of a policy's own samples. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LONGEST_LOOP = 16  # tokens of the longest block whose repetition is looked for
LOOP_REPEATS = 4  # times that a block must stand back to back
LOOP_TOKENS = 12  # tokens that the repetition must cover, so that "..." is none


def is_loop(tokens: Sequence[int]) -> bool:
    """Whether a block of at most `LONGEST_LOOP` tokens repeats back to back, `LOOP_REPEATS` times or more."""
    ids = np.asarray(tokens)
    for block in range(1, LONGEST_LOOP + 1):
        wanted = max((LOOP_REPEATS - 1) * block, LOOP_TOKENS - block)
        if len(ids) < wanted + block:
            continue
        run = 0
        for equal in ids[block:] == ids[:-block]:
            run = run + 1 if equal else 0
            if run >= wanted:
                return True
    return False


def distinct_n(samples: Sequence[Sequence[int]], n: int) -> float | None:
    """Distinct n-grams over all n-grams of all samples (Li et al. 2016, arXiv 1510.03055); None without any."""
    grams = [tuple(row[i : i + n]) for row in samples for i in range(len(row) - n + 1)]
    return len(set(grams)) / len(grams) if grams else None
