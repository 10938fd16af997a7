"""One thing that would stop a run."""

from __future__ import annotations

from dataclasses import dataclass

from fairlead.errors import FairleadError
from fairlead.escape import one_line


@dataclass(frozen=True)
class Problem:
    """One thing that would stop a run.

    Attributes:
        where: the YAML key it is about.
        what: what is wrong, in one clause.
        remedy: what to write, export or install.
    """

    where: str
    what: str
    remedy: str

    @classmethod
    def of(cls, where: str, error: FairleadError) -> Problem:
        """An error that a stage would raise later; what it is about is named beside the key."""
        about = f"{error.where}: " if error.where and error.where != where else ""
        return cls(where, f"{about}{error.what}", error.remedy)

    def __str__(self) -> str:
        return one_line(f"{self.where}: {self.what}" + (f" — {self.remedy}" if self.remedy else ""))
