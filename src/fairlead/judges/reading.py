"""Reads verdicts and scores from what judges write. Pure functions; what is not certain is None.

A reader that guesses turns an apology into a score. So every rule wants a form that nobody writes by accident, a
contradiction is unreadable, and a reply that was cut off is believed only where its JSON is complete.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, Literal

import regex

Side = Literal["A", "B", "tie"]

_NUMBER = r"(?<![\d.,/\-–])(\d{1,3}(?:[.,]\d+)?)"
# Not a longer number, another scale, a range or a percentage; "out of ten" and "/10" are the scale itself.
_SCALE = (
    r"(?!\d)(?![.,]\d)\s*(?:(?:/|out\s+of)\s*(?:10|ten)(?![\d]|\.\d)|(?!\s*(?:[/%\d]|out\s+of|(?:-|–|to|or)\s*\d)))"
)
_OF_TEN = r"(?!\d)(?![.,]\d)\s*(?:/|out\s+of)\s*(?:10|ten)(?!\d|\.\d)"
_KEY = r"(?:overall|final|total)?[ _]*(?:score|rating|grade|mark|bewertung|note|puntuación|puntuacion|評価|评分)"
_MARKED = regex.compile(
    rf"\b{_KEY}\W{{0,6}}(?:(?:is|of|ist|es|would\s+be|:|=)\W{{0,6}}){{0,2}}{_NUMBER}{_SCALE}", regex.IGNORECASE
)
_OUT_OF_TEN = regex.compile(rf"{_NUMBER}{_OF_TEN}", regex.IGNORECASE)
_VERB = regex.compile(
    rf"\b(?:give|rate|score|grade|assign|award|deserves|earns|merits)\b(?:\W+(?!not\b|n't)[a-z]+){{0,4}}?\W{{1,4}}"
    rf"{_NUMBER}{_SCALE}",
    regex.IGNORECASE,
)
_BARE = regex.compile(rf"[\s*_`#\[\]().:\"'>-]*{_NUMBER}(?:{_OF_TEN})?[\s*_`\[\]().!\"'<]*", regex.IGNORECASE)
_RANGE = regex.compile(r"\d\s*(?:-|–|to)\s*\d+\s*(?:/|out\s+of)\s*10", regex.IGNORECASE)

_LABEL = r"(?:answer|response|output|assistant|model|option|candidate)"
_VERDICT = r"(?:\(?(A|B)\)?(?![\w'’])|(tie|draw|equal|neither|both))"
_BRACKETS = regex.compile(r"\[\[\s*(A|B|C|tie)\s*\]\]", regex.IGNORECASE)
_MARKED_SIDE = regex.compile(
    rf"\b(?:verdict|winner|choice|preference|preferred|decision|judg(?:e)?ment|final\s+answer|better\s+answer)\b"
    rf"[\s*_`\"':=>-]*(?:is\b|goes\s+to\b)?[\s*_`\"':=>\[(-]*(?:{_LABEL}\s+)?{_VERDICT}",
    regex.IGNORECASE,
)
_BARE_SIDE = regex.compile(
    rf"[\s*_`#\[\](){{}}.:\"'>-]*(?:the\s+)?(?:{_LABEL}[\s:]*)?[\[(*_\"'`]*(?:\b(A|B)\b|\b(tie|draw)\b)[\s*_`\[\](){{}}.!\"'<]*",
    regex.IGNORECASE,
)
_BETTER = r"(?:better|best|superior|preferable|preferred|stronger|the\s+winner|more\s+\w+)"
_SIDE_IS_BETTER = regex.compile(
    rf"\b{_LABEL}\s+\W?(A|B)\b\W?\s+(?:is|wins|was|would\s+be)\b(?:\s+(?!not\b|n't|no\b|worse\b)\w+){{0,3}}?\s*"
    rf"(?:(?<=wins\s*)|\b{_BETTER}\b)",
    regex.IGNORECASE,
)
_I_PREFER = regex.compile(
    rf"\bI\s+(?:would\s+)?(?:prefer|choose|pick|select|favou?r)\s+(?:the\s+)?{_LABEL}\s+\W?(A|B)\b", regex.IGNORECASE
)
_EQUAL = regex.compile(
    r"\b(?:it\s+is\s+a\s+(?:tie|draw)|both\s+(?:\w+\s+)?are\s+(?:equally|equal)|are\s+equally\s+good|neither\s+is\s+better)\b",
    regex.IGNORECASE,
)
_NEGATED = regex.compile(
    rf"\b{_LABEL}\s+\W?(A|B)\b\W?\s+(?:is|was)(?:\s+not|n't)\b(?:\s+\w+){{0,3}}?\s+{_BETTER}\b", regex.IGNORECASE
)
_REFUSAL = regex.compile(
    r"^\W{0,6}(?:(?:i\s*(?:'|’)?\s*a?m\s+)?(?:very\s+|so\s+)?sorry\b|i\s+apologi[sz]e|unfortunately,?\s+i|as\s+an\s+ai\b"
    r"|i\s+(?:can(?:no|')?t|can’t|cannot|won(?:'|’)t|will\s+not|must\s+decline|decline))"
    r"(?s:.{0,160}?)"
    r"\b(?:can(?:no|')?t|can’t|cannot|unable|not\s+able|won(?:'|’)t|will\s+not|decline|refuse|not\s+comfortable)\b"
    r"|^\W{0,6}i(?:\s+am|'m|’m)\s+(?:unable|not\s+able|not\s+comfortable)\b"
    r"|^\W{0,6}i\s+(?:can(?:no|')?t|can’t|cannot|won(?:'|’)t|will\s+not|must\s+decline|decline)\b",
    regex.IGNORECASE,
)

_SCORE_KEYS = ("score", "rating", "overall_score", "final_score", "overall", "grade", "value")
_SIDE_KEYS = ("verdict", "winner", "preferred", "preference", "better", "choice", "answer", "decision")
_SECONDS = 1.0  # a reply on which a pattern takes longer is unreadable


def read_score(text: str, *, cut: bool = False) -> float | None:
    """A score from 1 to 10, None where the reply holds none that is certain.

    Args:
        cut: whether the reply reached the token limit; a number at its end may then be half of one.
    """
    text = _after_reasoning(text)
    found, data = _json_value(text, _SCORE_KEYS)
    if found:
        return _in_range(_number(data))
    if cut:
        return None
    try:
        return _score_in_prose(text)
    except TimeoutError:
        return None


def _score_in_prose(text: str) -> float | None:
    if _RANGE.search(text, timeout=_SECONDS):
        return None
    lines = [line for line in text.splitlines() if line.strip()]
    numbered = len(lines) > 1 and lines[-1].rstrip().endswith(".")  # the last item of a list
    if lines and not numbered and (bare := _BARE.fullmatch(lines[-1], timeout=_SECONDS)):
        return _in_range(_number(bare.group(1)))
    for pattern in (_MARKED, _OUT_OF_TEN, _VERB):
        numbers = {_number(m.group(1)) for m in pattern.finditer(text, timeout=_SECONDS)}
        if len(numbers) > 1 and lines:  # several aspects were rated: the last line may hold the total alone
            numbers = {_number(m.group(1)) for m in pattern.finditer(lines[-1], timeout=_SECONDS)}
            if len(numbers) != 1:
                return None
        if numbers:
            return _in_range(numbers.pop())
    return None


def read_side(text: str, *, cut: bool = False) -> Side | None:
    """Which answer a judge prefers, None where the reply says it with no certainty."""
    text = _after_reasoning(text)
    found, data = _json_value(text, _SIDE_KEYS)
    if found:
        return _side(data) if isinstance(data, str) else None
    if cut:
        return None
    try:
        return _side_in_prose(text)
    except TimeoutError:
        return None


def _side_in_prose(text: str) -> Side | None:
    brackets = {_side(m.group(1)) for m in _BRACKETS.finditer(text, timeout=_SECONDS)}
    if brackets:
        return brackets.pop() if len(brackets) == 1 else None
    lines = [line for line in text.splitlines() if line.strip()]
    if lines and (bare := _BARE_SIDE.fullmatch(lines[-1], timeout=_SECONDS)):
        return _side(bare.group(1) or bare.group(2))
    if _NEGATED.search(text, timeout=_SECONDS):
        return None
    marked = {_side(m.group(1) or m.group(2)) for m in _MARKED_SIDE.finditer(text, timeout=_SECONDS)}
    if marked:
        return marked.pop() if len(marked) == 1 else None
    sides = {_side(m.group(1)) for p in (_SIDE_IS_BETTER, _I_PREFER) for m in p.finditer(text, timeout=_SECONDS)}
    if _EQUAL.search(text, timeout=_SECONDS):
        sides.add("tie")
    return sides.pop() if len(sides) == 1 else None


def is_refusal(text: str) -> bool:
    """Whether a reply declines, as models word it. Meant for replies in which no verdict could be read."""
    try:
        return _REFUSAL.search(_after_reasoning(text)[:400], timeout=_SECONDS) is not None
    except TimeoutError:
        return False


def expected_score(tokens: Sequence[tuple[str, Sequence[tuple[str, float]]]]) -> float | None:
    """Mean score under the probabilities of the token that holds the score.

    Σ s·p(s) / Σ p(s) over the alternatives that are whole numbers from 1 to 10 (Liu et al. 2023, G-Eval, eq. 1). None
    where no such token stands, where they hold less than half of the probability, or where the number spans
    several tokens ("1" and then "0"), because the mass of "1" would then contain that of "10".

    Args:
        tokens: each token of the reply with its alternatives and their natural log-probabilities.
    """
    places = [n for n, (token, _) in enumerate(tokens) if _whole(token) is not None]
    if not places:
        return None
    place = places[-1]
    neighbours = [*tokens[max(place - 1, 0) : place], *tokens[place + 1 : place + 2]]
    if any(token.strip().isdigit() for token, _ in neighbours):
        return None
    mass: dict[int, float] = {}
    for token, logprob in tokens[place][1]:
        value = _whole(token)
        if value is not None:
            mass[value] = mass.get(value, 0.0) + math.exp(logprob)
    total = sum(mass.values())
    return sum(value * p for value, p in mass.items()) / total if total >= 0.5 else None


def _whole(token: str) -> int | None:
    text = token.strip(" \"':*{}[]\n")
    return int(text) if text.isascii() and text.isdigit() and 1 <= int(text) <= 10 else None


def _after_reasoning(text: str) -> str:
    """What follows the reasoning of models that show it; nothing where the reasoning does not end."""
    for close in ("</think>", "</thinking>", "</reasoning>"):
        if close in text:
            return text.rsplit(close, 1)[1].strip()
    if text.lstrip().startswith(("<think>", "<thinking>", "<reasoning>")):
        return ""
    return text.strip()


def _json_value(text: str, keys: Sequence[str]) -> tuple[bool, Any]:
    """Whether a complete JSON object in the text holds one of the keys, and the value in the last such object."""
    found, value = False, None
    decoder = json.JSONDecoder()
    start = text.find("{")
    while start >= 0:
        try:
            data, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            start = text.find("{", start + 1)
            continue
        lowered = {str(key).strip().lower(): item for key, item in data.items()}
        for key in keys:
            if key in lowered:
                found, value = True, lowered[key]
                break
        start = text.find("{", end)
    return found, value


def _number(value: Any) -> float | None:
    """A number, or a text that is one, alone or out of ten."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    if not isinstance(value, str):
        return None
    try:
        found = _BARE.fullmatch(value.strip(), timeout=_SECONDS)
    except TimeoutError:
        return None
    return float(found.group(1).replace(",", ".")) if found else None


def _in_range(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) and 1 <= value <= 10 else None


def _side(word: str) -> Side | None:
    word = " ".join(word.strip(" .\"'*_[]()").casefold().split())
    for label in ("answer ", "response ", "output ", "assistant ", "model ", "option "):
        word = word.removeprefix(label)
    if word in ("a", "b"):
        return "A" if word == "a" else "B"
    if word in ("tie", "draw", "c", "equal", "neither", "both", "tied"):
        return "tie"
    return None
