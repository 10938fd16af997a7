"""Reads verdicts and scores from what judges write. Pure functions; what is not certain is None.

A reader that guesses turns an apology into a score. So every rule wants a form that nobody writes by accident, a
contradiction is unreadable, and a reply that was cut off is believed only where its JSON is complete.
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeVar

import regex

Side = Literal["A", "B", "tie"]
T = TypeVar("T")

_NUMBER = r"(?<![\d.,/\-–])(\d{1,3}(?:\.\d+|,\d{1,2}(?!\d))?)(?!\d)(?![.,]\d)"
# "out of ten" and "/10" are the scale itself; not another scale, a range, a sum or a percentage.
_SCALE = (
    r"(?>\s*(?:(?:points?|marks?)\s*)?)(?:(?:/|out\s+of|of)\s*(?:10|ten)(?!\d|\.\d)"
    r"|(?!\s*(?:[/%\d]|out\s+of|of\s+\d|stars?\b|(?:-|–|to|or|[+×=])\s*\d)))"
)
_OF_TEN = r"\s*(?:(?:points?|marks?)\s*)?(?:/|out\s+of)\s*(?:10|ten)(?!\d|\.\d)"
_KEY = r"(?:overall|final|total)?[ _]*(?:score|rating|grade|mark|bewertung|note|puntuación|puntuacion|評価|评分)"
_KEY_SCALE = r"(?:\s*\((?:(?:on\s+a\s+scale\s+)?(?:of|from)?\s*1\s*(?:-|–|to)|out\s+of|/)\s*10\))?"
# "Rating 10 things" and "9 out of 10 dentists" count; what may follow a number that is a score.
_NO_COUNT = r"(?![ \t]*(?!(?:because|since|as|for|with|and|but|points?|marks?|overall|in|on|given|due|so)\b)\p{L})"
_MARKED = regex.compile(
    rf"\b{_KEY}{_KEY_SCALE}\W{{0,6}}(?|(?:(?:is|of|ist|es|would\s+be|:|=)\W{{0,6}}){{1,2}}{_NUMBER}{_SCALE}"
    rf"|{_NUMBER}{_SCALE}{_NO_COUNT})",
    regex.IGNORECASE,
)
_BRACKETED = regex.compile(rf"\[\[\s*{_NUMBER}(?:{_OF_TEN})?\s*\]\]", regex.IGNORECASE)
_OUT_OF_TEN = regex.compile(rf"{_NUMBER}{_OF_TEN}{_NO_COUNT}", regex.IGNORECASE)
_VERB = regex.compile(
    rf"\b(?:give|rate|score|grade|assign|award|deserves|earns|merits)\b(?:\W+[a-z]+){{0,4}}?\W{{1,4}}"
    rf"{_NUMBER}{_SCALE}{_NO_COUNT}",
    regex.IGNORECASE,
)
_BARE = regex.compile(rf"[\s*_`#\[\]().:\"'>$-]*{_NUMBER}(?:{_OF_TEN})?[\s*_`\[\]().!\"'<$]*", regex.IGNORECASE)
_RANGE = regex.compile(r"\d\s*(?:-|–|to)\s*\d+\s*(?:/|out\s+of)\s*10", regex.IGNORECASE)
_BOXED = regex.compile(r"\\boxed\s*\{\s*(?:\\text\s*\{)?([^{}\n]{1,20})\}{1,2}")

_LABEL = r"(?:answer|response|output|assistant|model|option|candidate)"
_VERDICT = (
    r"(?:\(?(A|B)\)?(?![\w'’])|(tie|draw)(?![\w-])"
    r"|(equal|neither|both)(?=(?:\s+(?:is|are)\s+(?:better|equal))?\s*(?:[.,;!*_\"'`)\]\n]|$)))"
)
_BRACKETS = regex.compile(r"\[\[\s*(A|B|C|tie)\s*\]\]", regex.IGNORECASE)
_MARKED_SIDE = regex.compile(
    rf"\b(?:verdict|winner|choice|preference|preferred|decision|judg(?:e)?ment|(?:final|better|preferred)\s+answer)\b"
    rf"[\s*_`\"']*(?:[:=>→-]|is\b|goes\s+to\b)[\s*_`\"':=>\[(-]*(?:is\b\s*)?(?:{_LABEL}\s+)?{_VERDICT}",
    regex.IGNORECASE,
)
_BARE_SIDE = regex.compile(
    rf"[\s*_`#\[\](){{}}.:\"'>$-]*(?:the\s+)?(?:{_LABEL}[\s:]*)?[\[(*_\"'`]*(?:\b(A|B)\b|\b(tie|draw)\b)[\s*_`\[\](){{}}.!\"'<$]*",
    regex.IGNORECASE,
)
_MERIT = (
    r"(?:accurate|helpful|correct|complete|useful|informative|relevant|precise|thorough|convincing|detailed|truthful"
    r"|factual|comprehensive|coherent|appropriate|reliable)"
)
_BETTER = rf"(?:better|best|superior|preferable|preferred|stronger|the\s+winner|more\s+{_MERIT})"
# A letter alone is an answer only where a clause begins: "vitamin A is better" names none.
_NAMED = (
    rf"(?:\b{_LABEL}\s+\W?(?P<side>A|B)\b\W?"
    r"|(?:(?:\A|[\n.!?:;,])[\s*_\"'(]*|\b(?:think|believe|say|overall)\s+)(?-i:(?P<side>A|B))\b[\W]?)"
)
_SIDE_IS_BETTER = regex.compile(
    rf"{_NAMED}\s+(?:(?:is|was|would\s+be)\b(?:\s+(?!not\b|n't|no\b|worse\b|less\b|neither\b)\w+){{0,3}}?\s+{_BETTER}|wins)\b"
    r"(?!(?s:.*)\b(?:but|however|although|though|yet|except)\b)",
    regex.IGNORECASE,
)
_I_PREFER = regex.compile(
    rf"\bI\s+(?:would\s+)?(?:prefer|choose|pick|select|favou?r|(?:go|vote)\s+(?:with|for))\s+"
    rf"(?:(?:the\s+)?{_LABEL}\s+\W?(?P<side>A|B)\b|\W?(?-i:(?P<side>A|B))\b(?!\s+(?!over\b|because\b|as\b|since\b)\w))",
    regex.IGNORECASE,
)
_EQUAL = regex.compile(
    r"\b(?:it\s+is\s+a\s+(?:tie|draw)|both\s+(?:\w+\s+)?are\s+(?:equally|equal)|are\s+equally\s+good|neither\s+is\s+better)\b",
    regex.IGNORECASE,
)
_NEGATED = regex.compile(
    rf"\b{_LABEL}\s+\W?(A|B)\b\W?\s+(?:is|was)(?:\s+not|n't)\b(?:\s+\w+){{0,3}}?\s+{_BETTER}\b", regex.IGNORECASE
)

# What takes a statement back, looked for from the beginning of its clause (of its sentence) to it, and after it.
_SENTENCE = regex.compile(r"[!?\n]|\.(?!\d)")
_CLAUSE = regex.compile(
    rf"[!?\n;:]|\.(?!\d)|,\s*(?=(?:I|my|the\s+(?:score|rating|winner)|overall|it|this|{_LABEL})\b)"
    r"|\b(?:but|so|therefore|thus|hence|yet|still|because)\b",
    regex.IGNORECASE,
)
_DENIED = regex.compile(
    r"\b(?:not|never|cannot|no|nor|neither|without|doubt\w*|exceed\w*|above|below|at\s+(?:least|most)|up\s+to|than"
    r"|instead|maximum|max|minimum|min|perfect|highest|lowest|top|possible|between|could|might|almost|nearly)\b|n['’]t\b",
    regex.IGNORECASE,
)
_CONDITION = regex.compile(r"\b(?:if|unless|had\s+(?:it|they)|were\s+it)\b", regex.IGNORECASE)
_EXPLAINED = regex.compile(
    r"[\s)\"'*\]]*\b(?:means|is|are|was|would|indicates|represents|requires|stands|goes|implies|denotes|equals|if"
    r"|unless|had|were)\b",
    regex.IGNORECASE,
)
_LOOK_BACK = 300  # characters

_CANNOT = r"(?:can(?:no|')?t|can’t|cannot|won(?:'|’)t|will\s+not|(?:must\s+|have\s+to\s+)?(?:decline|refuse))"
_REFUSAL = regex.compile(
    r"^\W{0,6}(?:(?:i\s*(?:'|’)?\s*a?m\s+)?(?:very\s+|so\s+)?sorry\b|i\s+apologi[sz]e|unfortunately,?\s+i|as\s+an\s+ai\b)"
    r"(?s:.{0,160}?)"
    r"\b(?:can(?:no|')?t|can’t|cannot|unable|not\s+able|won(?:'|’)t|will\s+not|decline|refuse|not\s+comfortable)\b"
    r"|^\W{0,6}(?:i(?:\s+am|'m|’m)\s+)?(?:unable|not\s+able|not\s+comfortable)\b"
    rf"|^\W{{0,6}}i\s+{_CANNOT}\b(?!\s+(?:find|see|detect|spot|identify|fault|decide|tell|say|distinguish|think)\b)",
    regex.IGNORECASE,
)

_SCORE_KEYS = ("score", "rating", "overall_score", "final_score", "overall", "grade", "value")
_SIDE_KEYS = ("verdict", "winner", "preferred", "preference", "better", "choice", "answer", "decision")
_FLAT_OBJECT = regex.compile(r"\{[^{}]{1,2000}\}")
_SECONDS = 1.0  # a reply on which a pattern takes longer is unreadable


def read_score(text: str, *, cut: bool = False) -> float | None:
    """A score from 1 to 10, None where the reply holds none that is certain.

    Args:
        cut: whether the reply reached the token limit; a number at its end may then be half of one.
    """
    values, prose = _json_values(_after_reasoning(text), _SCORE_KEYS)
    try:
        said = _score_in_prose(prose)
    except TimeoutError:
        return None
    if not values:
        return None if cut else said
    scores = {_in_range(_number(value)) for value in values}
    return _agreed(scores, said)


def _agreed(found: set[T | None], said: T | None) -> T | None:
    """The one value of the JSON, unless the prose around it says another: the judge may only have quoted it."""
    return found.pop() if len(found) == 1 and (said is None or said in found) else None


def _score_in_prose(text: str) -> float | None:
    text = _BOXED.sub(r"[[\1]]", text, timeout=_SECONDS)
    if _RANGE.search(text, timeout=_SECONDS):
        return None
    lines = [line for line in text.splitlines() if line.strip()]
    numbered = len(lines) > 1 and lines[-1].rstrip().endswith(".")  # the last item of a list
    if lines and not numbered and (bare := _BARE.fullmatch(lines[-1], timeout=_SECONDS)):
        return _in_range(_number(bare.group(1)))
    for pattern in (_BRACKETED, _MARKED, _OUT_OF_TEN, _VERB):
        numbers = _numbers(pattern, text)
        if len(numbers) > 1 and lines:  # several aspects were rated: the last line may hold the total alone
            numbers = _numbers(pattern, lines[-1])
            if len(numbers) != 1:
                return None
        if numbers:
            return _in_range(numbers.pop())
    return None


def _numbers(pattern: regex.Pattern[str], text: str) -> set[float | None]:
    return {_number(m.group(1)) for m in pattern.finditer(text, timeout=_SECONDS) if _asserted(text, m.start(1), m)}


def _asserted(text: str, start: int, found: regex.Match[str]) -> bool:
    """Whether the sentence says this of the answer: does not deny, bound or explain it, and makes no condition."""
    before = text[max(0, start - _LOOK_BACK) : start]
    sentence, clause = (pattern.split(before, timeout=_SECONDS)[-1] for pattern in (_SENTENCE, _CLAUSE))
    return not (
        _CONDITION.search(sentence, timeout=_SECONDS)
        or _DENIED.search(clause, timeout=_SECONDS)
        or _EXPLAINED.match(text, found.end(), timeout=_SECONDS)
    )


def read_side(text: str, *, cut: bool = False) -> Side | None:
    """Which answer a judge prefers, None where the reply says it with no certainty."""
    values, prose = _json_values(_after_reasoning(text), _SIDE_KEYS)
    try:
        said = _side_in_prose(prose)
        if not values:
            return None if cut else said
        sides = {_side_in_json(value) for value in values}
    except TimeoutError:
        return None
    return _agreed(sides, said)


def _side_in_json(value: Any) -> Side | None:
    """The side that a value names, alone or in a sentence."""
    return (_side(value) or _side_in_prose(value)) if isinstance(value, str) else None


def _side_in_prose(text: str) -> Side | None:
    text = _BOXED.sub(r"[[\1]]", text, timeout=_SECONDS)
    brackets = {_side(m.group(1)) for m in _BRACKETS.finditer(text, timeout=_SECONDS)}
    if brackets:
        return brackets.pop() if len(brackets) == 1 else None
    lines = [line for line in text.splitlines() if line.strip()]
    if lines and (bare := _BARE_SIDE.fullmatch(lines[-1], timeout=_SECONDS)):
        return _side(bare.group(1) or bare.group(2))
    if _NEGATED.search(text, timeout=_SECONDS):
        return None
    marked = {_side(m.group(1) or m.group(2) or m.group(3)) for m in _said(_MARKED_SIDE, text)}
    if marked:
        return marked.pop() if len(marked) == 1 else None
    sides = {_side(m.group("side")) for p in (_SIDE_IS_BETTER, _I_PREFER) for m in _said(p, text)}
    if _EQUAL.search(text, timeout=_SECONDS):
        sides.add("tie")
    return sides.pop() if len(sides) == 1 else None


def _said(pattern: regex.Pattern[str], text: str) -> Iterator[regex.Match[str]]:
    return (m for m in pattern.finditer(text, timeout=_SECONDS) if _asserted(text, m.start(), m))


def is_refusal(text: str) -> bool:
    """Whether a reply declines, as models word it. Meant for replies in which no verdict could be read."""
    try:
        return _REFUSAL.search(_after_reasoning(text)[:400], timeout=_SECONDS) is not None
    except TimeoutError:
        return False


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
            mass[value] = mass.get(value, 0.0) + math.exp(logprob)
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


def _after_reasoning(text: str) -> str:
    """What follows the reasoning of models that show it; nothing where the reasoning does not end."""
    for close in ("</think>", "</thinking>", "</reasoning>"):
        if close in text:
            return text.rsplit(close, 1)[1].strip()
    if text.lstrip().startswith(("<think>", "<thinking>", "<reasoning>")):
        return ""
    return text.strip()


def _json_values(text: str, keys: Sequence[str]) -> tuple[list[Any], str]:
    """What complete JSON objects in the text hold under the first of the keys that each has, and the text around."""
    values: list[Any] = []
    around: list[str] = []
    seen, start = 0, text.find("{")
    while start >= 0:
        data, end = _object_at(text, start)
        lowered = {str(key).strip().lower(): item for key, item in data.items()}
        values += [lowered[key] for key in keys if key in lowered][:1]
        if data:
            around.append(text[seen:start])
            seen = end
        start = text.find("{", end)
    return values, " ".join([*around, text[seen:]])


def _object_at(text: str, start: int) -> tuple[dict[Any, Any], int]:
    """The JSON object that begins here, or the same in Python's quotes, and where it ends; else an empty one."""
    try:
        data, end = json.JSONDecoder().raw_decode(text, start)
        return data, end
    except (ValueError, RecursionError):
        pass
    flat = _FLAT_OBJECT.match(text, start)
    if flat:
        try:
            data = ast.literal_eval(flat.group())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            data = None
        if isinstance(data, dict):
            return data, flat.end()
    return {}, start + 1


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
