"""A judge that keeps its verdicts, for what is measured of it later: on which rows it agrees with people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean

from fairlead.documents.qualification import CheckedRow
from fairlead.judges.base import Judge
from fairlead.judges.qualification.human_labels import LOSS, WIN, LabelledComparison
from fairlead.records import Answer, Comparison, Score, Verdict


class RecordingJudge:
    """Asks another judge and remembers its verdicts.

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


def checked_rows(verdicts: dict[str, Verdict], rows: Sequence[LabelledComparison]) -> tuple[CheckedRow, ...]:
    """The rows that were judged alike in both orders, and that people decided.

    Args:
        verdicts: by comparison id.
    """
    checked = []
    for row in rows:
        judged = row.comparison
        one = verdicts.get(judged.id)
        other = verdicts.get(Comparison(judged.prompt, judged.second, judged.first).id)
        if one is None or other is None or {row.human, one.state} - {WIN, LOSS} or other.state is not one.state.swapped:
            continue
        margins = [verdict.margin for verdict in (one, other) if verdict.margin is not None]
        checked.append(CheckedRow(correct=row.human is one.state, margin=fmean(margins) if margins else None))
    return tuple(checked)
