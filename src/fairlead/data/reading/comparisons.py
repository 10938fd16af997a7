"""Comparisons that people have judged: two answers to a prompt, and what each person says of them.

Forms of rows: PandaLM's, LLMBar's, qa_feedback's (four answers, a verdict on each two of them), and Fairlead's own.
Knows nothing of files: an error here says what is wrong with the row, and the caller says where the row stands.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairlead.data.reading.fields import (
    UnusableRowError,
    about,
    field,
    instruction_and_input,
    prompt_field,
    quoted,
    text_field,
    wrong,
)
from fairlead.data.reading.rows import Row
from fairlead.errors import DataError
from fairlead.records import Comparison, DropReason, Imported, Preference, Prompt, VerdictState

WIN, LOSS, TIE = VerdictState.WIN, VerdictState.LOSS, VerdictState.TIE
_WORDS = {
    **dict.fromkeys(("1", "first", "win", "a", "output_1", "response1"), WIN),
    **dict.fromkeys(("2", "second", "loss", "b", "output_2", "response2"), LOSS),
    **dict.fromkeys(("0", "tie", "draw"), TIE),
}


@dataclass(frozen=True, slots=True)
class JudgedComparison:
    """A comparison with what people say of it.

    Attributes:
        people: win (the first answer is better), loss or tie of each person; empty where nobody says anything.
        models: who wrote the first and the second answer, "" where unknown.
    """

    comparison: Comparison
    people: tuple[VerdictState, ...]
    models: tuple[str, str] = ("", "")


def pandalm(row: Row) -> list[JudgedComparison]:
    """PandaLM's: `instruction`, `input`, `response1`, `response2`, `annotators`: 0 tie, 1, 2 of each person."""
    prompt = Prompt.of(instruction_and_input(row), **about(row))
    first, second = (text_field({name: _published(field(row, name))}, name) for name in ("response1", "response2"))
    return [JudgedComparison(Comparison(prompt, first, second), _people(row.get("annotators"), "annotators"))]


def _published(answer: Any) -> Any:
    """PandaLM's file holds the answers True and False as JSON's own words."""
    return str(answer) if isinstance(answer, bool) else answer


def llmbar(row: Row) -> list[JudgedComparison]:
    """LLMBar's: `input`, `output_1`, `output_2`, and the `label` of the better one."""
    prompt = Prompt.of(text_field(row, "input"), **about(row))
    comparison = Comparison(prompt, text_field(row, "output_1"), text_field(row, "output_2"))
    return [JudgedComparison(comparison, _people(row.get("label"), "label"), _models(row))]


def comparison(row: Row) -> list[JudgedComparison]:
    """Fairlead's own: `prompt`, `first`, `second`, and `human`: first, second or tie, or a list of one per person."""
    answers = (text_field(row, "first"), text_field(row, "second"))
    return [JudgedComparison(Comparison(prompt_field(row), *answers), _people(row.get("human"), "human"), _models(row))]


def qa_feedback(row: Row) -> list[JudgedComparison]:
    """qa_feedback's: `question`, `passages` of [title, sentence, …], `answers`, and the `preference` of each two.

    The verdicts stand in the order 12, 13, 14, 23, 24, 34: 0 tie, 1 the first of the two, 2 the second. The prompt is
    the question, and the passages after it; `gold` is the `answer` of its gold.
    """
    answers = field(row, "answers")
    if not isinstance(answers, list) or len(answers) < 2 or not all(isinstance(answer, str) for answer in answers):
        raise wrong("answers", "a list of strings (at least two)", answers)
    pairs = list(itertools.combinations(answers, 2))
    verdicts = field(row, "preference")
    if not isinstance(verdicts, list) or len(verdicts) != len(pairs):
        raise wrong("preference", f"a list of {len(pairs)} verdicts, one on each two of the answers,", verdicts)
    gold = {"gold": {"answer": row["gold"]}} if isinstance(row.get("gold"), str) else {}
    text = "\n\n".join((text_field(row, "question"), *_passages(row)))
    prompt = Prompt.of(text, **about({**row, **gold}))
    return [
        JudgedComparison(Comparison(prompt, *pair), _people(verdict, f"preference[{place}]"))
        for place, (pair, verdict) in enumerate(zip(pairs, verdicts, strict=True))
    ]


def _passages(row: Row) -> list[str]:
    passages = row.get("passages") or []
    if not isinstance(passages, list) or not all(
        isinstance(passage, list) and all(isinstance(part, str) for part in passage) for passage in passages
    ):
        raise wrong("passages", "a list of lists of strings", passages)
    return [" ".join(passage) for passage in passages]


FORMS: Mapping[str, tuple[frozenset[str], Callable[[Row], list[JudgedComparison]]]] = {
    "pandalm": (frozenset({"instruction", "response1", "response2", "annotators"}), pandalm),
    "llmbar": (frozenset({"input", "output_1", "output_2", "label"}), llmbar),
    "qa_feedback": (frozenset({"question", "answers", "preference"}), qa_feedback),
    "comparison": (frozenset({"prompt", "first", "second", "human"}), comparison),
}


def form_of(columns: Mapping[str, Any]) -> str | None:
    """The name of the form that has these columns, None where it is none of them."""
    return next((name for name, (needed, _) in FORMS.items() if needed <= columns.keys()), None)


def majority(people: Sequence[VerdictState]) -> VerdictState | None:
    """What most people say; None where no answer leads."""
    ranked = Counter(people).most_common(2)
    if not ranked or (len(ranked) > 1 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]


def preference(judged: JudgedComparison) -> Preference:
    """The pair that most people prefer. With several people the margin is the lead of the winner, as a share of them.

    Raises:
        UnusableRowError: if nobody says anything, most people see a draw, or no answer leads.
    """
    people, verdict = judged.people, majority(judged.people)
    if not people:
        raise UnusableRowError(DropReason.NO_VERDICT)
    if verdict is None:
        raise UnusableRowError(DropReason.NO_MAJORITY)
    if verdict is TIE:
        raise UnusableRowError(DropReason.DRAW)
    margin = (people.count(verdict) - people.count(verdict.swapped)) / len(people) if len(people) > 1 else None
    answers = [(judged.comparison.first, judged.models[0]), (judged.comparison.second, judged.models[1])]
    (chosen, chosen_model), (rejected, rejected_model) = answers if verdict is WIN else reversed(answers)
    origin = Imported(chosen_model=chosen_model, rejected_model=rejected_model)
    return Preference(judged.comparison.prompt, chosen, rejected, margin, origin)


def _models(row: Row) -> tuple[str, str]:
    return str(row.get("first_model") or ""), str(row.get("second_model") or "")


def _people(value: Any, name: str) -> tuple[VerdictState, ...]:
    """The verdict of each person; what is null, empty or not a number is none."""
    verdicts = [item for item in (value if isinstance(value, list) else [value]) if not _is_missing(item)]
    people = tuple(map(state_of, verdicts))
    if not all(state.decided for state in people):
        raise DataError(f"{name} is {quoted(value)}", remedy="wanted: first, second or tie (or 1, 2, 0)")
    return people


def _is_missing(verdict: Any) -> bool:
    return verdict is None or verdict != verdict or (isinstance(verdict, str) and not verdict.strip())


def state_of(value: Any) -> VerdictState:
    """A verdict as a state; what names no answer is unreadable."""
    word = str(value).strip().casefold().removesuffix(".0")  # a column of a data frame with a gap holds floats
    if word in _WORDS:
        return _WORDS[word]
    return VerdictState(word) if word in ("inconsistent", "refused", "failed") else VerdictState.UNREADABLE
