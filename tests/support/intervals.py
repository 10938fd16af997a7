"""Whether an interval covers the truth, once and over many draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fairlead.records import Interval


def covers(interval: Interval, truth: float) -> bool:
    """Whether the interval is defined and holds the truth, ends included."""
    if interval.low is None or interval.high is None:
        return False
    return interval.low - 1e-9 <= truth <= interval.high + 1e-9


def coverage(draw: Callable[[], tuple[Any, ...]], interval: Callable[..., Interval], truth: float, times: int) -> float:
    """Share of `times` draws whose interval holds the truth; every one must be defined."""
    intervals = [interval(*draw()) for _ in range(times)]
    assert all(one.low is not None and one.high is not None for one in intervals)
    return sum(covers(one, truth) for one in intervals) / times
