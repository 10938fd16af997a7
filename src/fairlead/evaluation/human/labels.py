"""Labels of people on the compared answers: rows {prompt, first, second, human, by, chance}.

A label belongs to the texts that were read, so it counts for whichever pair of models gave those answers, in either
order, and for none once a model answers otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairlead.data.reading.comparisons import comparison
from fairlead.data.reading.fields import wrong
from fairlead.data.reading.rows import FileRow, Row, read_rows
from fairlead.errors import DataError
from fairlead.records import Comparison, Prompt, VerdictState

UNNAMED = "somebody"


@dataclass(frozen=True, slots=True)
class Label:
    """What one person says of a comparison.

    Attributes:
        state: win (the first answer is better), loss or tie.
        by: the reviewer.
        chance: with what probability the comparison was chosen for labelling, up to a common factor; None where all
            were chosen alike.
    """

    comparison: Comparison
    state: VerdictState
    by: str
    chance: float | None = None


def read_labels(path: Path) -> list[Label]:
    """The labels of a file.

    Raises:
        DataError: naming the row: what is missing, a verdict that is none, a second label by the same reviewer.
    """
    labels: list[Label] = []
    seen: dict[tuple[str, str], FileRow] = {}
    for row in read_rows(path):
        for label in row.read(_labels):
            key = (_either_way(label.comparison), label.by)
            if key in seen:
                raise row.error(
                    f"is a second label by {label.by} of the comparison in row {seen[key].number}",
                    "keep one of them; another person's label needs another name in the field by",
                )
            seen[key] = row
            labels.append(label)
    return labels


def _labels(row: Row) -> list[Label]:
    missing = [name for name in ("prompt", "first", "second", "human") if row.get(name) is None]
    if missing:
        raise DataError(f"has no field {missing[0]}", remedy="wanted: prompt, first, second, human, and by (a name)")
    (judged,) = comparison(row)
    by = row.get("by", UNNAMED)
    if not isinstance(by, str) or not by.strip():
        raise wrong("by", "the name of the reviewer", by)
    names = [by] if len(judged.people) == 1 else [f"{by} {number}" for number in range(1, len(judged.people) + 1)]
    if not names:
        raise DataError("has no verdict", remedy="wanted in human: first, second or tie")
    chance = _chance(row)
    return [Label(judged.comparison, state, name, chance) for state, name in zip(judged.people, names, strict=True)]


def _chance(row: Row) -> float | None:
    value = row.get("chance")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise wrong("chance", "a number above 0 and at most 1", value)
    return float(value)


def _either_way(comparison: Comparison) -> str:
    """The same for both orders of the answers."""
    swapped = Comparison(comparison.prompt, comparison.second, comparison.first)
    return min(comparison.id, swapped.id)


def label_row(label: Label) -> dict[str, Any]:
    """The row of a label, as `read_labels` reads it."""
    prompt = label.comparison.prompt
    words = {VerdictState.WIN: "first", VerdictState.LOSS: "second", VerdictState.TIE: "tie"}
    row = {
        "prompt": _prompt_value(prompt),
        "first": label.comparison.first,
        "second": label.comparison.second,
        "human": words[label.state],
        "by": label.by,
    }
    return row if label.chance is None else {**row, "chance": label.chance}


def _prompt_value(prompt: Prompt) -> Any:
    if len(prompt.messages) == 1 and prompt.messages[0].role == "user":
        return prompt.messages[0].content
    return [{"role": message.role, "content": message.content} for message in prompt.messages]


def by_place(labels: Sequence[Label], comparisons: Sequence[Comparison]) -> dict[int, list[Label]]:
    """The labels of each comparison, by its index, each as seen from the comparison's own first answer."""
    places = {c.id: (place, False) for place, c in enumerate(comparisons)}
    places |= {
        Comparison(c.prompt, c.second, c.first).id: (place, True)
        for place, c in enumerate(comparisons)
        if c.first != c.second
    }
    found: dict[int, list[Label]] = {}
    for label in labels:
        if label.comparison.id in places:
            place, turned = places[label.comparison.id]
            state = label.state.swapped if turned else label.state
            found.setdefault(place, []).append(Label(comparisons[place], state, label.by, label.chance))
    return found
