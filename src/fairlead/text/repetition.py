"""Loops and variety: whether a text, its words or its tokens repeat themselves without end. Pure functions.

One criterion for all of them: a block stands back to back several times. What differs is what a block is made of, how
long it may be, and whether only the end is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairlead.text.words import Words

_ROUNDS = 4
_TOKENS, _COVERED_TOKENS = 16, 12  # a loop covers 12 tokens or more, so that "..." is none
_WORDS, _REPEATED_WORDS = 24, 11  # 11 words repeat those before them: "no no no no" is an answer, not a loop
_CHARACTERS, _COVERED_CHARACTERS = 120, 24
_SAME_CHARACTER = 60
_RULE = " \n\t-_=*#.~|+"  # rules, table borders and rows of dots are drawn on purpose
_FEW_WORDS, _NEW_SHARE = 40, 0.5


def has_loop(
    items: ArrayLike,
    *,
    longest: int,
    rounds: int = _ROUNDS,
    covered: int = 0,
    repeated: int = 0,
    missing: int = 0,
    at_end: bool = False,
) -> bool:
    """Whether a block of at most `longest` items stands back to back.

    Args:
        items: [n] numbers; equal items have equal numbers.
        rounds: how many times the block must stand there.
        covered: how many items all its rounds must cover.
        repeated: how many items must repeat those one block before.
        missing: how many items the last round may lack.
        at_end: whether the last round must be the end of the items.
    """
    numbers = np.asarray(items)
    for period in range(1, min(longest, len(numbers) - 1) + 1):
        needed = max((rounds - 1) * period - missing, covered - period, repeated)
        if len(numbers) - period >= needed and _run(numbers[period:] == numbers[:-period], at_end) >= needed:
            return True
    return False


def _run(same: NDArray[np.bool_], at_end: bool) -> int:
    """The longest run of true values, or the one at the end."""
    edges = np.flatnonzero(np.diff(same, prepend=False, append=False))
    lengths = edges[1::2] - edges[::2]
    if at_end:
        return int(lengths[-1]) if len(same) and same[-1] else 0
    return int(lengths.max(initial=0))


def tokens_loop(tokens: Sequence[int]) -> bool:
    """Whether up to 16 sampled tokens stand back to back four times or more, and cover 12 tokens."""
    return has_loop(tokens, longest=_TOKENS, covered=_COVERED_TOKENS)


def distinct_n(samples: Sequence[Sequence[int]], n: int) -> float | None:
    """Distinct n-grams over all n-grams of all samples (Li et al. 2016, arXiv 1510.03055); None without any."""
    grams = [tuple(row[i : i + n]) for row in samples for i in range(len(row) - n + 1)]
    return len(set(grams)) / len(grams) if grams else None


def ends_in_loop(text: str) -> bool:
    """Whether a text goes on repeating itself.

    Either it ends in one unit of up to 120 characters four times over, or, from 40 words on, fewer than half of its
    runs of four words are new. A rule of dashes or the like at its end is drawn on purpose.
    """
    tail = text.rstrip()
    last_line = tail[tail.rfind("\n") + 1 :]
    if "\n" in tail and len(last_line) <= _CHARACTERS and not last_line.strip(_RULE):
        tail = tail[: -len(last_line)].rstrip()
    # The last character of the last round may be a space that was stripped.
    codes = np.frombuffer(tail[-_ROUNDS * _CHARACTERS :].encode("utf-32-le", "surrogatepass"), np.uint32)
    if has_loop(codes, longest=_CHARACTERS, covered=_COVERED_CHARACTERS, missing=1, at_end=True):
        return True
    words = text.split()
    runs = list(zip(words, words[1:], words[2:], words[3:], strict=False))
    return len(words) >= _FEW_WORDS and len(set(runs)) < _NEW_SHARE * len(runs)


def texts_with_loops(texts: Sequence[str], words: Sequence[Words]) -> NDArray[np.bool_]:
    """Which texts hold, anywhere, four rounds or more of up to 24 words, or one character 60 times in a row.

    Args:
        words: of each text, its words as `Vocabulary` numbers them.
    """
    loops = np.array([_has_character_run(text) for text in texts], np.bool_)
    for number in _suspects(words):
        if not loops[number]:
            loops[number] = has_loop(words[number], longest=_WORDS, repeated=_REPEATED_WORDS)
    return loops


def _suspects(words: Sequence[Words]) -> list[int]:
    """The texts in which some word and five neighbours on one side stand again a loop's length later.

    Looks at every 11th word of all texts at once: a loop of 11 words and more that repeat those before them has one of
    these, and five more on one side of it.
    """
    half = _REPEATED_WORDS // 2
    edge = np.full(_WORDS + half, -2, np.int32)
    flat = np.concatenate([edge, *words, edge])
    ends = np.cumsum([len(edge), *map(len, words)])
    suspects: set[int] = set()
    for period in range(1, _WORDS + 1):
        at = np.arange(half, len(flat) - period - half, _REPEATED_WORDS)
        at = at[(flat[at] == flat[at + period]) & (flat[at] != -2)]
        sides = [np.ones(len(at), np.bool_), np.ones(len(at), np.bool_)]
        for step in range(1, half + 1):
            for sign, side in zip((1, -1), sides, strict=True):
                side &= flat[at + sign * step] == flat[at + sign * step + period]
        suspects.update(np.searchsorted(ends, at[sides[0] | sides[1]], side="right").tolist())
    return sorted(number - 1 for number in suspects if 0 < number <= len(words))


def _has_character_run(text: str) -> bool:
    """Looks at every 30th character: of a run of 60 one of them and the 30 after it are the same."""
    half = _SAME_CHARACTER // 2
    return any(
        text[at] == text[at + half] and text[at] not in _RULE and text[at : at + half] == text[at] * half
        for at in range(0, len(text) - half, half)
    )
