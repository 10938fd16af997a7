"""Reads verdicts and scores from what judges write. Pure functions; what is not certain is None.

A judge is asked once more where nothing can be read, so a wrong reading costs more than none. Five forms are read, each
as the whole reply or at its end: a JSON object, `[[A]]`, `\\boxed{A}`, `Verdict: A` (or `Score: 7`), and a line with
the verdict alone. Reasoning may stand before them, nothing after. Prose is never interpreted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import regex

Choice = Literal["A", "B", "tie"]
T = TypeVar("T")

_LONGEST_LINE = 200  # characters of a line that may hold a verdict
_MOST_STARTS = 50  # lines on which the JSON object at the end of a reply may begin

_ANSWER = r"(?:(?:the\s+)?(?:answer|response|output|assistant|model|option|candidate)\s+)?"
_TIES = r"tie|tied|draw|equal|neither|both"
_CHOICE = rf"{_ANSWER}[(\[\"']?(a|b|{_TIES})[)\]\"']?"
_CHOICE_WORDS = r"verdict|winner|choice|preference|decision|judge?ment"
_CHOICE_LABEL = (
    rf"(?:(?:my|the)\s+)?(?:(?:final|overall)\s+)?(?:{_CHOICE_WORDS}|(?:(?:better|best|preferred)\s+)?answer)"
)

_NUMBER = r"([0-9]{1,2}(?:[.,][0-9]{1,2})?)"
_SCORE = rf"{_NUMBER}(?:\s*(?:points?\s*)?(?:/|out\s+of|of)\s*(?:10|ten)|\s+points?)?"
_SCORE_WORDS = r"score|rating|grade|bewertung|puntuaci[oó]n|評価|评分"
_SCALE = r"\((?:(?:on\s+a\s+scale\s+)?(?:(?:of|from)\s+)?1\s*(?:-|–|to)\s*10|(?:out\s+of|/)\s*10)\)"
_SCORE_LABEL = (
    rf"(?:(?:my|the)\s+)?(?:(?:final|total)\s+)?(?:overall|(?:overall\s+)?(?:{_SCORE_WORDS}))(?:\s*{_SCALE})?"
)

_COLON = r"\s*[:：=]\s*"
# What may lead over to the verdict; any other line that ends with a colon introduces something that is quoted.
_INTRODUCTION = re.compile(
    r"(?:here(?:['’]s|\s+is)\s+)?(?:(?:my|the|a)\s+)?(?:(?:final|overall|requested|corrected)\s+)?"
    rf"(?:json(?:\s+object)?|{_CHOICE_WORDS}|{_SCORE_WORDS}|evaluation|assessment|result)(?:\s+(?:is|in\s+json))?\s*[:：]"
    r"|here\s+(?:you\s+(?:are|go)|it\s+is)\s*[:：]|(?:my|final)\s+answer(?:\s+is)?\s*[:：]",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class _Kind(Generic[T]):
    """What judgements of one kind look like.

    Attributes:
        keys: keys of a JSON object that hold one.
        labelled: a line that is a label and a judgement, or a marked judgement.
        bare: a line that is a judgement alone.
        mention: a judgement with a label or a mark, anywhere in a text.
        value: what a JSON value, or the text that a pattern found, says; None where it is no judgement.
    """

    keys: frozenset[str]
    labelled: re.Pattern[str]
    bare: re.Pattern[str]
    mention: re.Pattern[str]
    value: Callable[[Any], T | None]


def read_choice(text: str, *, cut: bool = False) -> Choice | None:
    """Which answer a judge prefers; None where the reply says it in none of the forms.

    Args:
        cut: whether the reply reached the token limit; then only complete JSON is believed.
    """
    return _read(text, _CHOICE_KIND, cut)


def read_score(text: str, *, cut: bool = False) -> float | None:
    """A score from 1 to 10; None where the reply says it in none of the forms.

    Args:
        cut: whether the reply reached the token limit; then only complete JSON is believed, for a number at the end may
            be half of one.
    """
    return _read(text, _SCORE_KIND, cut)


def _read(text: str, kind: _Kind[T], cut: bool) -> T | None:
    reply = _without_fence(_after_reasoning(text))
    before, data = _object_at_end(reply)
    if data is not None:
        return _believed(_from_object(data, kind), before, kind)
    lines = [_plain(line) for line in reply.splitlines() if line.strip()]
    if cut or not lines or len(lines[-1]) > _LONGEST_LINE:
        return None
    before = "\n".join(lines[:-1])
    if labelled := kind.labelled.fullmatch(lines[-1]):
        return _believed(kind.value(_found(labelled)), before, kind)
    if len(lines) == 1:
        lines[-1] = lines[-1].strip("\"'“”")
    return _believed(_bare(lines, kind), before, kind)


def _believed(value: T | None, before: str, kind: _Kind[T]) -> T | None:
    """The judgement, unless what stands before it names another one or introduces it as a quotation."""
    if value is None or any(kind.value(_found(mention)) != value for mention in kind.mention.finditer(before)):
        return None
    last = _plain(before.rstrip().rpartition("\n")[2])
    quoted = last.endswith((":", "：")) and not _INTRODUCTION.fullmatch(last[:_LONGEST_LINE])
    return None if quoted else value


def _bare(lines: Sequence[str], kind: _Kind[T]) -> T | None:
    """The judgement that the last line is, unless another line is another, or it is the last number of a list."""
    values = {kind.value(_found(bare)) for line in lines if (bare := kind.bare.fullmatch(line[:_LONGEST_LINE]))}
    numbered = len(lines) > 1 and lines[-1][:1].isdigit() and lines[-1].endswith(".")
    return values.pop() if kind.bare.fullmatch(lines[-1]) and len(values) == 1 and not numbered else None


def _found(match: re.Match[str]) -> str:
    return next(group for group in match.groups() if group is not None)


def _plain(line: str) -> str:
    """A line without Markdown's emphasis, headings, bullets and formulas; a quotation (`>`) keeps its mark."""
    words = re.sub(r"[*_`$\s]+", " ", line).strip()
    return re.sub(r"^(?:#{1,6}|-) ", "", words)


def _choice(value: Any) -> Choice | None:
    if not isinstance(value, str) or len(value) > _LONGEST_LINE:
        return None
    choice = re.fullmatch(rf"{_CHOICE}[.!]?|(c)", value.strip(), re.IGNORECASE)
    word = "" if choice is None else _found(choice).upper()
    return None if not word else "A" if word == "A" else "B" if word == "B" else "tie"


def _score(value: Any) -> float | None:
    if isinstance(value, str) and len(value) <= _LONGEST_LINE:
        score = re.fullmatch(_SCORE, value.strip(), re.IGNORECASE)
        value = None if score is None else float(score.group(1).replace(",", "."))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 1 <= value <= 10 else None


_CHOICE_KIND: _Kind[Choice] = _Kind(
    frozenset({"verdict", "winner", "preference", "preferred", "choice", "decision", "better"}),
    labelled=re.compile(
        rf"{_CHOICE_LABEL}{_COLON}{_CHOICE}\s*[.!]?"
        rf"|(?:{_CHOICE_LABEL}(?:\s+is\s*:?|{_COLON})\s*)?"
        r"(?:\[\[\s*(a|b|c|tie)\s*\]\]|\\boxed\s*\{\s*(?:\\text\s*\{\s*)?(a|b|c|tie)\s*\}{1,2})\s*[.!]?",
        re.IGNORECASE,
    ),
    bare=re.compile(rf"{_ANSWER}[(\[]?(a|b|tie|draw)[)\]]?\s*[.!]?", re.IGNORECASE),
    mention=re.compile(
        r"\[\[\s*(a|b|c|tie)\s*\]\]|\\boxed\s*\{\s*(?:\\text\s*\{\s*)?(a|b|c|tie)\b"
        rf"|\b(?:{_CHOICE_WORDS})[\s\"'*_`]{{0,6}}[:：=][\s\"'*_`(\[]{{0,8}}{_ANSWER}(a|b|{_TIES})\b",
        re.IGNORECASE,
    ),
    value=_choice,
)
_SCORE_KIND: _Kind[float] = _Kind(
    frozenset({"score", "rating", "grade", "overall", "overall_score", "final_score"}),
    labelled=re.compile(
        rf"{_SCORE_LABEL}{_COLON}[\"'(]?({_SCORE})[\"')]?\s*[.!]?"
        rf"|(?:{_SCORE_LABEL}(?:\s+is\s*:?|{_COLON})\s*)?"
        rf"(?:\[\[\s*({_SCORE})\s*\]\]|\\boxed\s*\{{\s*(?:\\text\s*\{{\s*)?({_SCORE})\s*\}}{{1,2}})\s*[.!]?",
        re.IGNORECASE,
    ),
    bare=re.compile(rf"\(?({_SCORE})\)?\s*[.!]?", re.IGNORECASE),
    mention=re.compile(
        r"\[\[\s*([0-9]+(?:[.,][0-9]+)?)|\\boxed\s*\{\s*(?:\\text\s*\{\s*)?([0-9]+(?:[.,][0-9]+)?)"
        rf"|\b(?:{_SCORE_WORDS})[\s\"'*_`]{{0,6}}[:：=][\s\"'*_`(\[]{{0,8}}([0-9]+(?:[.,][0-9]+)?)",
        re.IGNORECASE,
    ),
    value=_score,
)


def _from_object(data: dict[str, Any], kind: _Kind[T]) -> T | None:
    """What an object's keys of this kind say, where there is one or they say the same."""
    values = {kind.value(value) for key, value in data.items() if key in kind.keys}
    return values.pop() if len(values) == 1 else None


def _object_at_end(reply: str) -> tuple[str, dict[str, Any] | None]:
    """What stands before the JSON object that ends a reply, and the object; None where it ends with none.

    The object begins on a line of its own: one inside a sentence is spoken of.
    """
    if reply.endswith("}"):
        for start in list(re.finditer(r"^[ \t]*(?=\{)", reply, re.MULTILINE))[:_MOST_STARTS]:
            try:
                data = json.loads(reply[start.end() :], object_pairs_hook=_keyed, parse_constant=_refuse_constant)
            except (ValueError, RecursionError):
                continue
            return reply[: start.start()], data
    return reply, None


def _keyed(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object by its keys in lower case.

    Raises:
        ValueError: if a key is there twice: a reader that takes either takes a side.
    """
    data = {key.strip().lower(): value for key, value in pairs}
    if len(data) < len(pairs):
        raise ValueError("a key is there twice")
    return data


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _after_reasoning(text: str) -> str:
    """What follows the reasoning of models that show it; nothing where the reasoning does not end."""
    for close in ("</think>", "</thinking>", "</reasoning>"):
        if close in text:
            return text.rsplit(close, 1)[1].strip()
    if text.lstrip().startswith(("<think>", "<thinking>", "<reasoning>")):
        return ""
    return text.strip()


def _without_fence(reply: str) -> str:
    """The reply with the fence of a code block at its end, such as "```json", taken away."""
    opened = reply.rfind("```", 0, -3) if reply.endswith("```") else -1
    language, newline, content = reply[opened + 3 : -3].partition("\n")
    if opened < 0 or not newline or not content.strip() or len(language.split()) > 1:
        return reply
    return f"{reply[:opened]}\n{content}".strip()


_CANNOT = r"(?:can(?:no|')?t|can’t|cannot|won(?:'|’)t|will\s+not|(?:must\s+|have\s+to\s+)?(?:decline|refuse))"
_REFUSAL = regex.compile(
    r"^\W{0,6}(?:(?:i\s*(?:'|’)?\s*a?m\s+)?(?:very\s+|so\s+)?sorry\b|i\s+apologi[sz]e|unfortunately,?\s+i|as\s+an\s+ai\b)"
    r"(?s:.{0,160}?)"
    r"\b(?:can(?:no|')?t|can’t|cannot|unable|not\s+able|won(?:'|’)t|will\s+not|decline|refuse|not\s+comfortable)\b"
    r"|^\W{0,6}(?:i(?:\s+am|'m|’m)\s+)?(?:unable|not\s+able|not\s+comfortable)\b"
    rf"|^\W{{0,6}}i\s+{_CANNOT}\b(?!\s+(?:find|see|detect|spot|identify|fault|decide|tell|say|distinguish|think)\b)",
    regex.IGNORECASE,
)
_SECONDS = 1.0  # a reply on which the search takes longer is no refusal


def is_refusal(text: str) -> bool:
    """Whether a reply declines, as models word it. Meant for replies in which no verdict could be read."""
    try:
        return _REFUSAL.search(_after_reasoning(text)[:400], timeout=_SECONDS) is not None
    except TimeoutError:
        return False
