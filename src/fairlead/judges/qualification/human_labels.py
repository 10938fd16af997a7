"""Comparisons that people have judged, with the verdicts that are stored beside them.

Three forms of rows: PandaLM's (`response1`, `response2`, `annotators`: 0 tie, 1, 2), LLMBar's (`output_1`, `output_2`,
`label`), and Fairlead's own (`prompt`, `first`, `second`, `human`: first, second or tie, or a list of one per person;
or `chosen` and `rejected`). In the last two forms `first_model` and `second_model` may name who answered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fairlead.data.reading.fields import quoted, text_field
from fairlead.data.reading.rows import Row, read_rows
from fairlead.errors import DataError, some
from fairlead.records import Comparison, Prompt, VerdictState

WIN, LOSS, TIE = VerdictState.WIN, VerdictState.LOSS, VerdictState.TIE
_WORDS = {
    **dict.fromkeys(("1", "first", "win", "a", "output_1", "response1"), WIN),
    **dict.fromkeys(("2", "second", "loss", "b", "output_2", "response2"), LOSS),
    **dict.fromkeys(("0", "tie", "draw"), TIE),
}


@dataclass(frozen=True)
class LabelledComparison:
    """A comparison with what people say of it.

    Attributes:
        people: win (the first answer is better), loss or tie of each person.
        stored: the verdict asked with the first answer shown first, and that with the second shown first where
            both were asked; both name the answer, not the place. Empty where none is stored.
        models: who wrote the first and the second answer, "" where unknown.
    """

    comparison: Comparison
    people: tuple[VerdictState, ...]
    stored: tuple[VerdictState, ...] = ()
    models: tuple[str, str] = ("", "")

    @property
    def human(self) -> VerdictState | None:
        """What most people say; None where no answer leads."""
        ranked = Counter(self.people).most_common(2)
        return ranked[0][0] if len(ranked) == 1 or ranked[0][1] > ranked[1][1] else None


def read_labelled(path: Path, verdicts: str | None = None) -> list[LabelledComparison]:
    """Reads a file of labelled comparisons.

    Args:
        verdicts: name of the field that holds a judge's stored verdicts; None reads none.

    Raises:
        DataError: naming the line and the field.
    """
    return [row.read(partial(_labelled, verdicts=verdicts)) for row in read_rows(path)]


def _labelled(row: Row, verdicts: str | None) -> LabelledComparison:
    read = next((form for needed, form in _FORMS if needed <= row.keys()), None)
    if read is None:
        raise DataError(
            f"has none of the known forms (its fields: {some(row)})",
            remedy="wanted: prompt, first, second, human; or PandaLM's or LLMBar's fields",
        )
    comparison, people, models = read(row)
    return LabelledComparison(comparison, people, _stored(row, verdicts), models)


_Read = tuple[Comparison, tuple[VerdictState, ...], tuple[str, str]]


def _pandalm(row: Row) -> _Read:
    text = "\n\n".join(part for part in (text_field(row, "instruction"), row.get("input") or "") if part)
    first, second = (text_field({name: _published(row[name])}, name) for name in ("response1", "response2"))
    comparison = Comparison(Prompt.of(text), first, second)
    return comparison, _people(row["annotators"], "annotators"), ("", "")


def _published(answer: Any) -> Any:
    """PandaLM's file holds the answers True and False as JSON's own words."""
    return str(answer) if isinstance(answer, bool) else answer


def _llmbar(row: Row) -> _Read:
    prompt = Prompt.of(text_field(row, "input"))
    comparison = Comparison(prompt, text_field(row, "output_1"), text_field(row, "output_2"))
    return comparison, _people(row["label"], "label"), _models(row)


def _own(row: Row) -> _Read:
    prompt = Prompt.of(text_field(row, "prompt"))
    comparison = Comparison(prompt, text_field(row, "first"), text_field(row, "second"))
    return comparison, _people(row["human"], "human"), _models(row)


def _chosen(row: Row) -> _Read:
    prompt = Prompt.of(text_field(row, "prompt"))
    return Comparison(prompt, text_field(row, "chosen"), text_field(row, "rejected")), (WIN,), _models(row)


_FORMS: Sequence[tuple[set[str], Callable[[Row], _Read]]] = (
    ({"instruction", "response1", "response2", "annotators"}, _pandalm),
    ({"input", "output_1", "output_2", "label"}, _llmbar),
    ({"prompt", "first", "second", "human"}, _own),
    ({"prompt", "chosen", "rejected"}, _chosen),
)


def _models(row: Row) -> tuple[str, str]:
    return str(row.get("first_model") or ""), str(row.get("second_model") or "")


def _people(value: Any, field: str) -> tuple[VerdictState, ...]:
    people = tuple(state_of(item) for item in (value if isinstance(value, list) else [value]))
    if not people or VerdictState.UNREADABLE in people:
        raise DataError(f"{field} is {quoted(value)}", remedy="wanted: first, second or tie (or 1, 2, 0)")
    return people


def _stored(row: Row, field: str | None) -> tuple[VerdictState, ...]:
    if field is None:
        return ()
    if field not in row:
        raise DataError(f"has no field {field}", remedy=f"--verdicts wants one of: {', '.join(row)}")
    value = row[field]
    if isinstance(value, Mapping):
        if len(value) != 2:
            raise DataError(f"{field} has {len(value)} verdicts, two orders are wanted")
        return tuple(state_of(item) for item in value.values())
    return (state_of(value),)


def state_of(value: Any) -> VerdictState:
    """A stored verdict as a state; what names no answer is unreadable."""
    word = str(value).strip().casefold()
    if word in _WORDS:
        return _WORDS[word]
    return VerdictState(word) if word in ("inconsistent", "refused", "failed") else VerdictState.UNREADABLE
