"""Tables that show themselves in a terminal and in a notebook, and become a pandas frame where pandas is there."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from fairlead.errors import FairleadError
from fairlead.escape import one_line, printable
from fairlead.records import Interval

Cell = str | int | float | None

_WIDTH = 100


@dataclass(frozen=True, repr=False)
class Table:
    """Named columns and their rows; None is an empty cell."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def __repr__(self) -> str:
        """Plain text whose columns stand below each other."""
        table = RichTable(*self.columns, box=None, pad_edge=False)
        for row in self.rows:
            table.add_row(*(Text(_text(cell)) for cell in row))
        file = io.StringIO()
        Console(file=file, width=_WIDTH, color_system=None, force_terminal=False).print(table)
        return "\n".join(line.rstrip() for line in file.getvalue().splitlines())

    def _repr_html_(self) -> str:
        """The table as a notebook shows it; texts of models and data are escaped."""
        head = "".join(f"<th>{_escaped(name)}</th>" for name in self.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{_escaped(_text(cell))}</td>" for cell in row) + "</tr>" for row in self.rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def to_pandas(self) -> Any:
        """The table as a `pandas.DataFrame`.

        Raises:
            FairleadError: if pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            remedy = "pip install pandas (fairlead[pandas]), or use the rows of table()"
            raise FairleadError("pandas is not installed", where="to_pandas()", remedy=remedy) from error
        return pd.DataFrame(list(self.rows), columns=list(self.columns))


def paragraph_html(text: str) -> str:
    """A paragraph of escaped text."""
    return f"<p>{_escaped(text)}</p>"


def interval_text(interval: Interval, digits: int = 2) -> str:
    """A mean with its interval, such as `7.31 [6.90, 7.72]`; a dash where there is no value."""
    if interval.value is None:
        return "—"
    value = f"{interval.value:.{digits}f}"
    if interval.low is None or interval.high is None:
        return value
    return f"{value} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def shares(counts: Sequence[tuple[str, int]]) -> str:
    """Counts in words, those of 0 left out: `12 scored, 1 refused`."""
    return ", ".join(f"{count} {name}" for name, count in counts if count) or "none"


def _text(cell: Cell) -> str:
    if cell is None:
        return "—"
    return one_line(f"{cell:.2f}" if isinstance(cell, float) else str(cell))


def _escaped(text: str) -> str:
    return html.escape(printable(text))
