"""The values that a metric of the decision can take."""

from __future__ import annotations

JUDGE_SCORE = "judge_score"
JUDGE_RANGE = (1.0, 10.0)


def range_of(metric: str) -> tuple[float, float]:
    return JUDGE_RANGE if metric == JUDGE_SCORE else (0.0, 1.0)
