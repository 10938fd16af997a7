"""What the `prepare` stage read and left out: counts.json."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from fairlead.documents.base import Document
from fairlead.records import DropReason

Count = Annotated[int, Field(ge=0)]


class PreparedRows(BaseModel):
    """Rows of one kind: those kept and those left out add up to the usable rows of the file.

    Attributes:
        kept: rows that later stages see.
        duplicates: rows that repeat an earlier one.
        leaks_dropped: rows whose prompt is an eval prompt, or nearly.
        dev_dropped: rows whose prompt is a prompt of the decision, or nearly.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kept: Count = 0
    duplicates: Count = 0
    leaks_dropped: Count = 0
    dev_dropped: Count = 0


class PrepareCounts(Document):
    """The rows of every data file, counted.

    Attributes:
        dev: prompts of the decision; those that were kept out of the training prompts count as kept.
        dropped_import: rows of data.preferences that make no pair, by reason.
        ignored_fields: of each data file, rows whose messages have a field that is not read, by the field's name.
    """

    eval: PreparedRows = PreparedRows()
    dev: PreparedRows = PreparedRows()
    sft: PreparedRows = PreparedRows()
    prompts: PreparedRows = PreparedRows()
    preferences: PreparedRows = PreparedRows()
    dropped_import: dict[DropReason, Count] = Field({})
    ignored_fields: dict[str, dict[str, Count]] = Field({})

    def by_kind(self) -> dict[str, PreparedRows]:
        """The rows of each data file, by the name of its key under `data`."""
        return {
            "eval": self.eval,
            "dev": self.dev,
            "sft": self.sft,
            "prompts": self.prompts,
            "preferences": self.preferences,
        }
