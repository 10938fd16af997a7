"""Regular expressions that people write into the YAML: checked for their size before they are compiled.

The engine copies what a quantifier repeats, so `a{300000000}` would take gigabytes. How long a pattern may run on a
text is bounded where it is used; see `fairlead.checks`.
"""

from __future__ import annotations

import re
from typing import Annotated

import regex
from pydantic import AfterValidator

MAX_CHARS = 5_000
MAX_SIZE = 20_000  # characters of the pattern with every quantifier written out

_QUANTIFIER = re.compile(r"\{(\d+)(?:,\d*)?\}")
_SET = re.compile(r"\[\^?\]?(?:[^\]\\]|\\.)*\]", re.DOTALL)


def compile_pattern(pattern: str) -> regex.Pattern[str]:
    """Compiles a pattern that is not too large.

    Raises:
        ValueError: if it is too large or no regular expression.
    """
    if len(pattern) > MAX_CHARS:
        raise ValueError(f"has {len(pattern):,} characters, a pattern may have {MAX_CHARS:,}")
    if unrolled_size(pattern) > MAX_SIZE:
        raise ValueError(
            f"repeats too much: with its quantifiers written out it is longer than {MAX_SIZE:,} characters"
        )
    try:
        return regex.compile(pattern)
    except (regex.error, RecursionError, OverflowError, ValueError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ValueError(f"invalid regular expression: {reason}") from error


def unrolled_size(pattern: str) -> int:
    """How long a pattern is when what each `{n}` repeats is written n times; an upper estimate.

    >>> unrolled_size("(ab{3}){10}")
    40
    """
    groups = [0]  # sizes of the open groups
    atom = at = 0  # size of what a quantifier here would repeat
    while at < len(pattern):
        quantifier, character_set = _QUANTIFIER.match(pattern, at), _SET.match(pattern, at)
        step = 1
        if quantifier:
            times = max(1, int(quantifier[1][:12]))
            groups[-1] += atom * (times - 1)
            atom, step = atom * times, len(quantifier[0])
        elif pattern[at] == "(":
            groups.append(0)
        elif pattern[at] == ")" and len(groups) > 1:
            atom = groups.pop()
            groups[-1] += atom
        else:
            atom, step = 1, len(character_set[0]) if character_set else 1 + (pattern[at] == "\\")
            groups[-1] += 1
        at += step
    return sum(groups)


def _valid(pattern: str) -> str:
    compile_pattern(pattern)
    return pattern


Pattern = Annotated[str, AfterValidator(_valid)]
