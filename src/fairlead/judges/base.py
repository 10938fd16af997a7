"""What every judge is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from fairlead.records import Answer, Comparison, Score, Verdict


class Judge(Protocol):
    """Verdicts and scores, in the order of the items.

    Attributes:
        name: identity of the judge: kind, model, template version.
    """

    @property
    def name(self) -> str: ...

    def compare(self, items: Iterable[Comparison]) -> Iterator[Verdict]:
        """One verdict per comparison; what could not be judged carries a state that says so."""

    def score(self, items: Iterable[Answer]) -> Iterator[Score]:
        """One score from 1 to 10 per answer; what could not be scored has no value."""
