"""An estimate with its confidence interval."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes:
        value: the estimate; None where no value was passed.
        low, high: ends of the interval; None where it is undefined.
        n: number of values it rests on.
        method: how the ends were found, or why there are none.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    method: str
