"""Tables for a terminal of 80 columns: no frames, figures whole, long words of names and sentences broken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from fairlead.cli.common import out
from fairlead.records import Interval


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, words: Iterable[str] = ()) -> None:
    """Prints a table; a column in which no row has anything is left out.

    Args:
        words: columns of names and sentences, which are broken to fit; figures stay whole.
    """
    cells = [list(row) for row in rows]
    filled = [n for n in range(len(columns)) if any(row[n] for row in cells)]
    broken = set(words)
    if not filled:
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    for n in filled:
        table.add_column(Text(columns[n]), no_wrap=columns[n] not in broken, overflow="fold")
    for row in cells:
        table.add_row(*(Text(row[n]) for n in filled))
    out.print(table)
    out.print()


def value_text(value: float | None, form: str = ".3f") -> str:
    """A rounded figure; a dash where there is none."""
    return "—" if value is None else f"{value:{form}}"


def bounds_text(low: float | None, high: float | None, form: str = ".3f") -> str:
    """The ends of an interval; a dash where there are none."""
    return "—" if low is None or high is None else f"[{low:{form}}, {high:{form}}]"


def interval_text(value: float | None, low: float | None, high: float | None, form: str = ".3f") -> str:
    """A figure with its interval, where it has one."""
    return value_text(value, form) + ("" if low is None or high is None else f" {bounds_text(low, high, form)}")


def interval_cells(interval: Interval) -> tuple[str, str, str]:
    """Value, interval and n, for three columns."""
    return value_text(interval.value), bounds_text(interval.low, interval.high), str(interval.n)


def count_text(count: int | None) -> str:
    """A count as people read it: 950, 12,300, 1.23 M; a dash where it is not known."""
    if count is None:
        return "—"
    return f"{count:,}" if count < 1_000_000 else f"{count / 1e6:.3g} M"
