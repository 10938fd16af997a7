"""Keeps eval prompts, prompts of the decision and near-duplicates of both out of the training data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from fairlead.config.data import DataSection
from fairlead.data.splits import split_by_prompt
from fairlead.documents.prepare import PreparedRows
from fairlead.errors import LeakError
from fairlead.records import Example, Preference, Prompt
from fairlead.text.near_duplicates import overlaps
from fairlead.text.words import asked

Row = TypeVar("Row", Prompt, Example, Preference)

_TRAINING_PER_DEV = 5  # at least so many training prompts for each that is set aside, so that most of them remain


@dataclass(frozen=True)
class KeptRows(Generic[Row]):
    """The rows of one kind that are kept, and how many were left out."""

    rows: list[Row]
    counts: PreparedRows


def without_eval_prompts(
    name: str,
    rows: Sequence[Row],
    identity: Callable[[Row], object],
    eval_texts: Sequence[str],
    data: DataSection,
) -> KeptRows[Row]:
    """Rows without repeats, eval prompts and near-duplicates of eval prompts.

    Raises:
        LeakError: if a row is an eval prompt or nearly so, and `data.on_leak` is fail.
    """
    distinct = _distinct(rows, identity)
    texts = [asked(row if isinstance(row, Prompt) else row.prompt) for row in distinct]
    leaks = overlaps(texts, eval_texts, data.similarity)
    if leaks and data.on_leak == "fail":
        raise LeakError(
            f"{len(leaks)} prompts are eval prompts or nearly so, such as {texts[min(leaks)][:60]!r}",
            where=str(getattr(data, name)),
            remedy="take them out of the file, or set data.on_leak: drop",
        )
    remaining = [row for number, row in enumerate(distinct) if number not in leaks]
    return KeptRows(
        remaining, PreparedRows(kept=len(remaining), duplicates=len(rows) - len(distinct), leaks_dropped=len(leaks))
    )


def most_dev_prompts(training: int, count: int) -> int:
    """How many of the training prompts `drawn_dev_prompts` sets aside, at most."""
    return min(count, training // _TRAINING_PER_DEV)


def drawn_dev_prompts(training: Sequence[Prompt], count: int, seed: int, data: DataSection) -> KeptRows[Prompt]:
    """Training prompts that are set aside for the decision, drawn by their content."""
    if not count or not training:
        return KeptRows([], PreparedRows())
    distinct = _distinct(training, lambda p: p.id)
    share = min(count / len(distinct), 1 / _TRAINING_PER_DEV)
    _, drawn = split_by_prompt(distinct, share, seed=seed, threshold=data.similarity)
    return KeptRows([distinct[number] for number in drawn], PreparedRows(kept=len(drawn)))


def without_dev_prompts(prepared: KeptRows[Row], dev_texts: Sequence[str], data: DataSection) -> KeptRows[Row]:
    """Rows without the prompts of the decision and near-duplicates of them."""
    if not dev_texts:
        return prepared
    texts = [asked(row if isinstance(row, Prompt) else row.prompt) for row in prepared.rows]
    near = overlaps(texts, dev_texts, data.similarity)
    rows = [row for number, row in enumerate(prepared.rows) if number not in near]
    return KeptRows(rows, prepared.counts.model_copy(update={"kept": len(rows), "dev_dropped": len(near)}))


def _distinct(rows: Sequence[Row], identity: Callable[[Row], object]) -> list[Row]:
    first: dict[object, Row] = {}
    for row in rows:
        first.setdefault(identity(row), row)
    return list(first.values())
