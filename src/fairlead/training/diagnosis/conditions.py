"""Conditions that several rules use."""

from __future__ import annotations

from fairlead.config.monitoring import Thresholds
from fairlead.training.diagnosis.curves import Curves

FEWEST_PAIRS = 20  # before which a share of pairs says nothing: half of 20 may be 0.3 to 0.7


def too_early(curves: Curves, limits: Thresholds) -> bool:
    """Whether too little of the training is over for a trend to count."""
    return curves.done is None or curves.done < limits.warmup


def has_moved(curves: Curves, limits: Thresholds) -> bool:
    """Whether the policy has left the reference, by its samples where there are any, else on its training pairs."""
    if curves.last_kl is not None:
        return curves.last_kl >= limits.moved_kl
    gap = curves.nats(curves.recent_gap)
    return gap is not None and abs(gap) >= limits.small_gap
