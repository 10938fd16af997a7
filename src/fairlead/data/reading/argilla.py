"""Argilla's records: texts in `fields`, what people or models say of them in `responses` and `suggestions`.

Both layouts: of Argilla 2 (questions as keys) and of the older feedback records (lists of users and of suggestions).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from fairlead.data.reading.fields import UnusableRowError, about, number, text_field, wrong
from fairlead.data.reading.rows import Row
from fairlead.records import DropReason, Message, Preference, Prompt

_PROMPTS = ("instruction", "prompt", "input", "question")
_SYSTEMS = ("system_prompt", "system")
_ANSWER = re.compile(r"(?:generation|response|completion|answer|output)[-_ ]?\d+")
_RATING = re.compile(r"(.+?)[-_ ]rating")


def argilla(row: Row) -> Preference:
    """The best and the worst answer of a record, by what people say; where they say nothing, by the suggestions.

    Fields: the prompt (instruction, prompt, input or question, maybe system_prompt), and `chosen` and `rejected` or
    numbered answers (generation-0, response1, …). Questions: a rating of each answer (its mean over people; the margin
    is the difference), a ranking of answers (mean rank), or one answer's name (votes). Equal ones give no pair.
    """
    fields = row["fields"] if isinstance(row.get("fields"), Mapping) else None
    if fields is None:
        raise wrong("fields", "an object of texts", row.get("fields"))
    prompt = Prompt(_asked(fields), **about(row))
    if fields.get("chosen") is not None and fields.get("rejected") is not None:
        return Preference(prompt, text_field(fields, "chosen"), text_field(fields, "rejected"))
    answers = [name for name in fields if _ANSWER.fullmatch(name) and fields[name] is not None]
    judged = _judged(list(_responses(row.get("responses"))), answers) or _judged(
        list(_suggestions(row.get("suggestions"))), answers
    )
    if judged is None:
        raise UnusableRowError(DropReason.NO_VERDICT)
    worth, rated = judged
    best, worst = max(worth, key=worth.__getitem__), min(worth, key=worth.__getitem__)
    if worth[best] == worth[worst]:
        raise UnusableRowError(DropReason.EQUAL_SCORES)
    margin = worth[best] - worth[worst] if rated else None
    return Preference(prompt, text_field(fields, best), text_field(fields, worst), margin)


def _asked(fields: Row) -> tuple[Message, ...]:
    name = next((name for name in _PROMPTS if fields.get(name) is not None), _PROMPTS[0])
    asked = Message("user", text_field(fields, name))
    system = next((fields[name] for name in _SYSTEMS if fields.get(name)), None)
    return (asked,) if system is None else (Message("system", str(system)), asked)


def _responses(responses: Any) -> Iterator[tuple[str, Any]]:
    """(question, value) of every person who answered."""
    if isinstance(responses, Mapping):
        for question, answers in responses.items():
            for one in answers if isinstance(answers, Sequence) and not isinstance(answers, str) else [answers]:
                yield str(question), _value(one)
        return
    for person in _items(responses, "responses"):
        values = person.get("values") if isinstance(person, Mapping) else None
        if isinstance(values, Mapping) and person.get("status") in (None, "submitted"):
            yield from ((str(question), _value(one)) for question, one in values.items())


def _suggestions(suggestions: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(suggestions, Mapping):
        yield from ((str(question), _value(one)) for question, one in suggestions.items())
        return
    for one in _items(suggestions, "suggestions"):
        if isinstance(one, Mapping) and "question_name" in one:
            yield str(one["question_name"]), _value(one)


def _items(value: Any, name: str) -> Sequence[Any]:
    if value is not None and (isinstance(value, str) or not isinstance(value, Sequence)):
        raise wrong(name, "an object or a list", value)
    return value or []


def _value(answer: Any) -> Any:
    return answer.get("value") if isinstance(answer, Mapping) else answer


def _judged(responses: Sequence[tuple[str, Any]], answers: Sequence[str]) -> tuple[dict[str, float], bool] | None:
    """How good each answer is, and whether that is a rating; None where fewer than two are judged."""
    ratings: dict[str, list[float]] = {}
    ranks: dict[str, list[float]] = {}
    votes = dict.fromkeys(answers, 0.0)
    for question, value in responses:
        rated = _RATING.fullmatch(question)
        if value is None:
            continue
        if rated and rated.group(1) in votes:
            ratings.setdefault(rated.group(1), []).append(number(value, question))
        elif isinstance(value, str) and value in votes:
            votes[value] += 1
        elif isinstance(value, Sequence) and not isinstance(value, str):
            for one in value:
                if isinstance(one, Mapping) and one.get("value") in votes and one.get("rank") is not None:
                    ranks.setdefault(one["value"], []).append(-number(one["rank"], question))
    for by_answer in (ratings, ranks):
        if len(by_answer) > 1:
            return {name: fmean(values) for name, values in by_answer.items()}, by_answer is ratings
    return (votes, False) if any(votes.values()) and len(answers) == 2 else None
