"""How far a judge agrees with people: accuracy, κ, position and length bias. Pure functions on verdicts."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from fairlead.documents.qualification import Agreement
from fairlead.errors import DataError
from fairlead.judges.base import Judge
from fairlead.judges.missing_verdicts import by_state
from fairlead.judges.qualification.human_labels import LOSS, TIE, WIN, LabelledComparison, read_labelled
from fairlead.records import Comparison, Interval, VerdictState
from fairlead.statistics.intervals import bounded_mean_interval, proportion_interval
from fairlead.statistics.kappa import cohens_kappa

Orders = tuple[VerdictState, ...]  # one or two verdicts on a comparison; both name the answer, not the place


def agreement(rows: Sequence[LabelledComparison], verdicts: Sequence[Orders]) -> Agreement:
    """Compares verdicts with people's.

    Args:
        verdicts: of each row, one or two.
    """
    decided = [(row, row.human, orders) for row, orders in zip(rows, verdicts, strict=True) if row.human is not None]
    both = any(len(orders) == 2 for orders in verdicts)
    flat = [(number, human, state) for number, (_, human, orders) in enumerate(decided) for state in orders]
    readable = [(number, human, state) for number, human, state in flat if state.decided]
    joined = [(human, state) for _, human, orders in decided if (state := joined_orders(orders)).decided]
    pairs = [orders for _, _, orders in decided if len(orders) == 2 and all(state.decided for state in orders)]
    majority = [(row, (human,)) for row, human, _ in decided]
    seen = [(row, orders) for row, _, orders in decided]
    return Agreement(
        rows=len(decided),
        undecided_rows=len(rows) - len(decided),
        states=by_state(Counter(state for _, _, state in flat)),
        accuracy=_share(readable),
        accuracy_missing_as_tie=_share([(n, human, state if state.decided else TIE) for n, human, state in flat]),
        accuracy_missing_as_wrong=_share(flat),
        pair_accuracy=_proportion(human is state for human, state in joined) if both else None,
        kappa=cohens_kappa([human for human, _ in joined], [state for _, state in joined]),
        order_agreement=_proportion(one is other for one, other in pairs) if both else None,
        first_place=_first_place([orders for _, orders in seen]),
        first_place_people=None if both else _first_place([orders for _, orders in majority]),
        longer=_longer(seen),
        longer_people=_longer(majority),
        missing=_proportion(not state.decided for _, _, state in flat),
        people=_people(rows),
    )


def joined_orders(orders: Orders) -> VerdictState:
    """One verdict from those of one or two orders: that on which they agree, else why there is none."""
    undecided = [state for state in orders if not state.decided]
    if undecided:
        return undecided[0]
    return orders[0] if len(set(orders)) == 1 else VerdictState.INCONSISTENT


def ask(judge: Judge, rows: Iterable[LabelledComparison]) -> list[Orders]:
    """A judge's verdicts on labelled rows, in both orders.

    Args:
        judge: one that asks in one order only (`both_orders: false`), so that each order is seen by itself. The
            replies have the same place in the ledger as those of a judge that asks in both.
    """
    states = [verdict.state for verdict in judge.compare(both_ways(rows))]
    one, other = states[: len(states) // 2], states[len(states) // 2 :]
    return [(a, b.swapped) for a, b in zip(one, other, strict=True)]


def both_ways(rows: Iterable[LabelledComparison]) -> list[Comparison]:
    """The comparisons of the rows, then the same with the second answer first."""
    comparisons = [row.comparison for row in rows]
    return [*comparisons, *(Comparison(c.prompt, c.second, c.first) for c in comparisons)]


def of_file(path: Path, verdicts: str) -> Agreement:
    """The agreement of verdicts that are stored in a file of labelled comparisons.

    Args:
        verdicts: name of their field, such as gpt35.

    Raises:
        DataError: if the file or the field is not there or not readable.
    """
    rows = read_labelled(path, verdicts)
    if len({len(row.stored) for row in rows}) > 1:
        raise DataError(f"{verdicts} has one order in some rows and two in others", where=str(path))
    return agreement(rows, [row.stored for row in rows])


def _share(judged: Sequence[tuple[int, VerdictState | None, VerdictState]]) -> Interval:
    """Share of verdicts that are right; the two orders of a row are one cluster."""
    numbers = [number for number, _, _ in judged]
    clusters = numbers if len(set(numbers)) < len(numbers) else None
    return bounded_mean_interval([float(human is state) for _, human, state in judged], 0.0, 1.0, clusters)


def _proportion(hits: Iterable[bool]) -> Interval:
    values = list(hits)
    return proportion_interval(sum(values), len(values))


def _first_place(verdicts: Sequence[Sequence[VerdictState | None]]) -> Interval:
    """Of the first order the first answer stands first, of the second order the second."""
    return _proportion(
        state is (WIN, LOSS)[order] for orders in verdicts for order, state in enumerate(orders) if state in (WIN, LOSS)
    )


def _longer(verdicts: Sequence[tuple[LabelledComparison, Sequence[VerdictState | None]]]) -> Interval:
    return _proportion(
        (state is WIN) == (len(row.comparison.first) > len(row.comparison.second))
        for row, orders in verdicts
        for state in orders
        if state in (WIN, LOSS) and len(row.comparison.first) != len(row.comparison.second)
    )


def _people(rows: Sequence[LabelledComparison]) -> Interval | None:
    """How far people agree with each other: no judge can be expected to agree with them more."""
    shares = [
        sum(a is b for a, b in pairs) / len(pairs)
        for row in rows
        if (pairs := list(itertools.combinations(row.people, 2)))
    ]
    return bounded_mean_interval(shares, 0.0, 1.0) if shares else None
