"""Comparisons that people have judged, with the verdicts of judges that are stored beside them.

The forms of `data.reading.comparisons`, and `prompt`, `chosen` and `rejected`. In the last, and in Fairlead's own form,
`first_model` and `second_model` may name who answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fairlead.data.reading.comparisons import FORMS, LOSS, TIE, WIN, JudgedComparison, form_of, majority, state_of
from fairlead.data.reading.fields import text_field
from fairlead.data.reading.rows import Row, read_rows
from fairlead.errors import DataError, some
from fairlead.records import Comparison, Prompt, VerdictState

__all__ = ["LOSS", "TIE", "WIN", "LabelledComparison", "read_labelled", "state_of"]


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
        return majority(self.people)


def read_labelled(path: Path, verdicts: str | None = None) -> list[LabelledComparison]:
    """Reads a file of labelled comparisons.

    Args:
        verdicts: name of the field that holds a judge's stored verdicts; None reads none.

    Raises:
        DataError: naming the line and the field.
    """
    return [labelled for row in read_rows(path) for labelled in row.read(partial(_labelled, verdicts=verdicts))]


def _labelled(row: Row, verdicts: str | None) -> list[LabelledComparison]:
    form = form_of(row)
    if form is not None:
        judged = FORMS[form][1](row)
    elif {"prompt", "chosen", "rejected"} <= row.keys():
        judged = [_chosen(row)]
    else:
        raise DataError(
            f"has none of the known forms (its fields: {some(row)})",
            remedy="wanted: prompt, first, second, human; or PandaLM's, LLMBar's or qa_feedback's fields",
        )
    if any(not one.people for one in judged):
        raise DataError("has no verdict of a person", remedy="wanted: first, second or tie (or 1, 2, 0)")
    stored = _stored(row, verdicts)
    return [LabelledComparison(one.comparison, one.people, stored, one.models) for one in judged]


def _chosen(row: Row) -> JudgedComparison:
    prompt = Prompt.of(text_field(row, "prompt"))
    models = (str(row.get("first_model") or ""), str(row.get("second_model") or ""))
    return JudgedComparison(Comparison(prompt, text_field(row, "chosen"), text_field(row, "rejected")), (WIN,), models)


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
