"""Every error that Fairlead raises on purpose.

An error is one line: what happened, where, what would be right, and the command that mends it. The command
line prints that line and exits with `exit_code`; from Python the exception carries the same text. Anything
else that escapes is a bug.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from fairlead.escape import one_line, shorten


class FairleadError(Exception):
    """Base of all errors with a remedy.

    Args:
        what: what happened, in one clause.
        where: file, key or endpoint it concerns, with a line number where there is one.
        remedy: what would be right, or the command that mends it.
    """

    exit_code = 3  # 1 and 2 belong to the gate's verdict (failed, insufficient)

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what, self.where, self.remedy = what, where, remedy
        parts = [f"{where}: {what}" if where else what]
        if remedy:
            parts.append(remedy)
        super().__init__(one_line(" — ".join(parts)))  # it may quote data, models and endpoints


class ConfigError(FairleadError):
    """`fairlead.yaml` is missing, malformed, or asks for something that cannot work."""


class DataError(FairleadError):
    """A file of rows is missing, unreadable, empty, or holds a row that cannot be used."""


class LeakError(DataError):
    """An eval prompt, or a near-duplicate of one, stands in training data."""


class ModelError(FairleadError):
    """A model, adapter or tokenizer cannot be loaded or does not fit the config."""


class ReferenceMismatchError(ModelError):
    """The reference is not the model that DPO starts from."""


class TrainingError(FairleadError):
    """Training cannot start or go on: no usable pairs, a non-finite loss, an incompatible checkpoint."""


class JudgeError(FairleadError):
    """The judge cannot be used, or too many of its verdicts are missing."""


class BudgetError(JudgeError):
    """The judge's budget is spent; the rerun continues where it stopped."""


class DecisionError(FairleadError):
    """Training wants to begin and no decision allows it."""


class ArtifactError(FairleadError):
    """An artifact is missing, incomplete, or its bytes are not those of its manifest."""


class DiskError(FairleadError):
    """A write failed: no space, no permission, a read-only file system."""


class ProjectBusyError(FairleadError):
    """Another process is running on this project."""

    exit_code = 4


def some(items: Iterable[object], most: int = 5, most_chars: int = 160) -> str:
    """The first few items of a list, for an error that must stay one line."""
    items = list(items)
    names: list[str] = []
    for item in items[:most]:
        names.append(shorten(str(item), 80))
        if sum(map(len, names)) + 2 * len(names) > most_chars:
            names.pop()
            break
    left = len(items) - len(names)
    return ", ".join(names) + (f" and {left} more" if left else "")


def known_names(name: object, known: Iterable[str], most: int = 12) -> str:
    """What to write in place of an unknown name: the nearest known one, or some known ones, the most similar first."""
    known = list(known)
    text = str(name)[:100]
    near = difflib.get_close_matches(text, known, n=1)
    if near:
        return f"did you mean {near[0]}?"
    if len(known) > most:
        known.sort(key=lambda other: -difflib.SequenceMatcher(None, text, other).ratio())
    return f"known: {some(known, most)}"
