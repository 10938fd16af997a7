"""Wilson's score interval, by itself so that what starts without scipy can use it."""

from __future__ import annotations

import math
from statistics import NormalDist


def wilson_ends(share: float, n: float, critical: float = NormalDist().inv_cdf(0.975)) -> tuple[float, float]:
    """Both ends of Wilson's interval of a share (Wilson 1927).

    Args:
        share: of successes, 0 to 1.
        n: trials, more than 0.
        critical: quantile of the normal distribution; that of 95 % if not given.
    """
    square = critical**2 / n
    middle = share + square / 2
    half = math.sqrt(square * share * (1 - share) + square**2 / 4)
    return (middle - half) / (1 + square), (middle + half) / (1 + square)
