"""Keeps, of a judge that is being checked, each row it decided: whether people say the same, and its margin."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from fairlead.judges.base import Judge
from fairlead.judges.qualification.human_labels import LOSS, WIN, Labelled
from fairlead.records import Answer, Comparison, Score, Verdict


@dataclass(frozen=True, slots=True)
class Checked:
    """A row on which people prefer one answer, and the judge one answer in both orders.

    Attributes:
        correct: whether it is the same.
        margin: mean of the orders' margins, None where the judge gives none.
    """

    correct: bool
    margin: float | None


class Noting:
    """A judge that remembers its verdicts.

    Attributes:
        verdicts: by comparison id, the last.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self.verdicts: dict[str, Verdict] = {}

    @property
    def name(self) -> str:
        return self._judge.name

    def compare(self, items: Iterable[Comparison]) -> Iterator[Verdict]:
        for verdict in self._judge.compare(items):
            self.verdicts[verdict.comparison_id] = verdict
            yield verdict

    def score(self, items: Iterable[Answer]) -> Iterator[Score]:
        return self._judge.score(items)

    def checked(self, rows: Sequence[Labelled]) -> list[Checked]:
        """The rows among `rows` that were judged in both orders, alike, and that people decided."""
        found = []
        for row in rows:
            asked = row.comparison
            one = self.verdicts.get(asked.id)
            other = self.verdicts.get(Comparison(asked.prompt, asked.second, asked.first).id)
            if one is None or other is None or row.human not in (WIN, LOSS) or one.state not in (WIN, LOSS):
                continue
            if other.state is not one.state.swapped:
                continue
            margins = [verdict.margin for verdict in (one, other) if verdict.margin is not None]
            found.append(Checked(row.human is one.state, fmean(margins) if margins else None))
        return found
