"""What is known of the judge, as label smoothing and pair weights for the loss.

A pair's label is wrong with probability ε. Two losses take it in:

    cDPO     (1 − ε) · (−log σ(βh)) + ε · (−log σ(−βh))                Mitchell, "A note on DPO with noisy preferences"
    robust   [(1 − ε) · (−log σ(βh)) − ε · (−log σ(−βh))] / (1 − 2ε)   Chowdhury et al. 2024, arXiv 2403.00409, eq. 12

h is the difference of the log-ratios. cDPO's minimum lies at βh = log((1 − ε) / ε), so no pair is learnt by heart. The
robust loss has the expectation of the loss on clean labels; its spread grows with 1 / (1 − 2ε).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import optimize

from fairlead.data.fields import number, wrong
from fairlead.data.rows import Row, read_rows
from fairlead.documents.qualification import CheckedRow
from fairlead.errors import TrainingError

LARGEST_ERROR = 0.49  # from ½ on a judge's labels say nothing, or the opposite
SMALLEST_SLOPE_EVIDENCE = 30  # labelled pairs, before which a slope over the margin is noise

_SLOPE_PRIOR = 1.0  # variance of the slope's normal prior, in standard deviations of the margin


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of a judge.

    Attributes:
        error: probability that a label is wrong, below ½.
        source: where it comes from, in words.
        slope: how fast the log-odds of a right label grow per standard deviation of the margin; 0 where the margin
            was found, or assumed, to say nothing.
    """

    error: float
    source: str
    slope: float = 0.0


def error_from_order_disagreement(disagreeing: int, decided: int) -> float | None:
    """Error of the labels that two orders agree on, if the judge errs independently in each.

    A judge that errs with probability e in each order gives two different verdicts with probability 2e(1 − e); of
    the rest a share e² / (e² + (1 − e)²) is wrong twice. What misleads it in both orders alike is not seen, so this
    is a lower bound.

    Args:
        disagreeing: comparisons whose two orders gave different verdicts.
        decided: comparisons with a verdict other than a tie in both orders, the same in each.

    Returns:
        None without any comparison; ½ where half or more disagree.
    """
    if disagreeing + decided == 0:
        return None
    share = disagreeing / (disagreeing + decided)
    if share >= 0.5:
        return 0.5
    each = (1 - math.sqrt(1 - 2 * share)) / 2
    return each**2 / (each**2 + (1 - each) ** 2)


def measure(
    correct: Sequence[bool] | None = None,
    margins: Sequence[float | None] | None = None,
    *,
    disagreeing: int = 0,
    decided: int = 0,
) -> Measured | None:
    """The error that labels checked by people show, or that the disagreement of the two orders shows if it is larger.

    Args:
        correct: of comparisons that people judged too, whether the judge said the same.
        margins: the judge's margin of each of them, if it gives one.
        disagreeing, decided: as for `error_from_order_disagreement`.

    Returns:
        None where nothing was measured.
    """
    by_order = error_from_order_disagreement(disagreeing, decided)
    orders = f"{disagreeing} of {disagreeing + decided} comparisons judged differently in the two orders"
    if correct:
        # Half a wrong and half a right label more (Jeffreys' prior): none wrong of twenty is not an error of 0.
        error = (sum(not c for c in correct) + 0.5) / (len(correct) + 1)
        pairs = [(m, c) for m, c in zip(margins or [], correct, strict=False) if m is not None]
        slope = _slope([m for m, _ in pairs], [c for _, c in pairs]) if len(pairs) >= SMALLEST_SLOPE_EVIDENCE else 0.0
        by_people = Measured(error, f"{len(correct)} comparisons that people judged too", slope)
        if by_order is None or by_order <= error:
            return by_people
        return Measured(by_order, orders, slope)
    if by_order is None or decided == 0:
        return None
    return Measured(by_order, orders)


def _slope(margins: Sequence[float], correct: Sequence[bool]) -> float:
    """Logistic regression of a right label on the standardised margin, never below 0."""
    x, y = np.asarray(margins, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    spread = float(x.std())
    if spread == 0 or y.min() == y.max():
        return 0.0
    z = (x - x.mean()) / spread

    def loss(parameters: Any) -> float:
        a, b = parameters
        logits = a + b * z
        return float(np.sum(np.logaddexp(0, logits) - y * logits) + b**2 / (2 * _SLOPE_PRIOR))

    return max(0.0, float(optimize.minimize(loss, np.zeros(2), method="BFGS").x[1]))


def pair_errors(measured: Measured, margins: Sequence[float | None]) -> list[float]:
    """ε of each pair: σ(−(a + slope · z)), z its standardised margin, a such that the mean is the measured error.

    A pair without a margin has the measured error. None lies above `LARGEST_ERROR`.
    """
    known = np.array([m for m in margins if m is not None], dtype=np.float64)
    error = min(measured.error, LARGEST_ERROR)
    if measured.slope == 0 or len(known) < 2 or float(known.std()) == 0 or error == 0:
        return [error] * len(margins)
    mean, spread = float(known.mean()), float(known.std())
    z = measured.slope * (known - mean) / spread

    def excess(a: float) -> float:
        return float(np.minimum(LARGEST_ERROR, 1 / (1 + np.exp(a + z))).mean()) - error

    a = float(optimize.brentq(excess, -50.0, 50.0))
    return [
        error
        if m is None
        else min(LARGEST_ERROR, 1 / (1 + math.exp(min(500.0, a + measured.slope * (m - mean) / spread))))
        for m in margins
    ]


def pair_weights(errors: Sequence[float]) -> list[float]:
    """(1 − 2ε)² of each pair, scaled to a mean of 1.

    An estimate of the clean gradient from a pair has a variance of 1 / (1 − 2ε)², so these are the weights of inverse
    variance: with equal errors all are 1.
    """
    raw = [(1 - 2 * error) ** 2 for error in errors]
    mean = sum(raw) / len(raw)
    return [value / mean for value in raw]


def order_counts(counts: Mapping[str, int]) -> tuple[int, int]:
    """(disagreeing, decided) of the counts that the `pairs` stage records."""
    decided = sum(counts.get(key, 0) for key in ("pairs", "within_margin"))
    return counts.get("inconsistent", 0), decided


def read_checks(path: Path) -> tuple[list[bool], list[float | None]]:
    """Comparisons that people judged too: rows {"correct": true or false, "margin": number or null}.

    Raises:
        DataError: naming the line that is of another form, or if there is none.
    """
    checks = [row.read(_check) for row in read_rows(path)]
    return [correct for correct, _ in checks], [margin for _, margin in checks]


def _check(row: Row) -> tuple[bool, float | None]:
    correct, margin = row.get("correct"), row.get("margin")
    if not isinstance(correct, bool):
        raise wrong("correct", "true or false", correct)
    return correct, None if margin is None else number(margin, "margin")


def measured(checks: Path | None, counts: Mapping[str, int], checked: Sequence[CheckedRow] | None = None) -> Measured:
    """What is known of the judge of a project.

    Args:
        checks: file for `read_checks`; it comes first, because these may be the project's own comparisons.
        counts: of the `pairs` stage.
        checked: rows on which the stage that qualifies judges has checked it.

    Raises:
        TrainingError: if nothing is known, or the judge is no better than a coin.
    """
    found = _best_known(checks, counts, checked)
    if found is None:
        raise TrainingError(
            "nothing was measured of the judge's errors",
            where="dpo.label_noise",
            remedy="name checked comparisons as dpo.label_checks, set judge_check, or ask the judge in both orders",
        )
    if found.error > LARGEST_ERROR:
        raise TrainingError(
            f"the judge is wrong in {found.error:.0%} of labels ({found.source}), so they teach nothing",
            where="dpo.label_noise",
            remedy="use a better judge",
        )
    return found


def _best_known(
    checks: Path | None, counts: Mapping[str, int], checked: Sequence[CheckedRow] | None
) -> Measured | None:
    disagreeing, decided = order_counts(counts)
    if checks is not None:
        correct, margins = read_checks(checks)
    else:
        correct = [row.correct for row in checked or []]
        margins = [row.margin for row in checked or []]
    if not correct and not disagreeing:
        return None
    return measure(correct, margins, disagreeing=disagreeing, decided=decided)
