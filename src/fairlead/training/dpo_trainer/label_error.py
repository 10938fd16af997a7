"""How often a judge's labels are wrong, by what was measured of it: labels of people, or its two orders' disagreement.

Pure functions, but for `read_checks`. What the loss does with the error is in `label_noise`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import optimize

from fairlead.data.reading.fields import number, wrong
from fairlead.data.reading.rows import Row, read_rows
from fairlead.documents.pairs import PairOutcome
from fairlead.documents.qualification import CheckedRow
from fairlead.errors import TrainingError

MAX_ERROR = 0.49  # from ½ on a judge's labels say nothing, or the opposite
MIN_SLOPE_LABELS = 30  # labelled pairs; with fewer a slope over the margin is noise

_SLOPE_PRIOR = 1.0  # variance of the slope's normal prior, in standard deviations of the margin


@dataclass(frozen=True, slots=True)
class LabelError:
    """How often a judge's labels are wrong.

    Attributes:
        error: probability that a label is wrong.
        source: what it was measured on, in words.
        slope: by how much the log-odds of a right label grow per standard deviation of the judge's margin; 0 where the
            margin was found, or is assumed, to tell nothing.
    """

    error: float
    source: str
    slope: float = 0.0


def error_from_order_disagreement(disagreeing: int, decided: int) -> float | None:
    """Error of the labels that two orders agree on, if the judge errs independently in each.

    A judge that errs with probability e in each order gives two different verdicts with probability 2e(1 − e); of
    the rest a share e² / (e² + (1 − e)²) is wrong twice. Errors that both orders have in common do not show, so this
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
    in_one_order = (1 - math.sqrt(1 - 2 * share)) / 2
    return in_one_order**2 / (in_one_order**2 + (1 - in_one_order) ** 2)


def estimate_label_error(
    correct: Sequence[bool] | None = None,
    margins: Sequence[float | None] | None = None,
    *,
    disagreeing: int = 0,
    decided: int = 0,
) -> LabelError | None:
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
        # Jeffreys' prior adds half a wrong and half a right label: none wrong of twenty is not an error of 0.
        error = (sum(not c for c in correct) + 0.5) / (len(correct) + 1)
        pairs = [(m, c) for m, c in zip(margins or [], correct, strict=False) if m is not None]
        slope = _slope([m for m, _ in pairs], [c for _, c in pairs]) if len(pairs) >= MIN_SLOPE_LABELS else 0.0
        by_people = LabelError(error, f"{len(correct)} comparisons that people judged too", slope)
        if by_order is None or by_order <= error:
            return by_people
        return LabelError(by_order, orders, slope)
    if by_order is None or decided == 0:
        return None
    return LabelError(by_order, orders)


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


def order_counts(counts: Mapping[PairOutcome, int]) -> tuple[int, int]:
    """(disagreeing, decided) of the counts that the `pairs` stage records."""
    decided = sum(counts.get(outcome, 0) for outcome in (PairOutcome.PAIR, PairOutcome.WITHIN_MARGIN))
    return counts.get(PairOutcome.INCONSISTENT, 0), decided


def read_checks(path: Path) -> tuple[list[bool], list[float | None]]:
    """Reads comparisons that people judged too: rows {"correct": true or false, "margin": number or null}.

    Raises:
        DataError: naming the line of another form, or if the file has no rows.
    """
    checks = [row.read(_check) for row in read_rows(path)]
    return [correct for correct, _ in checks], [margin for _, margin in checks]


def _check(row: Row) -> tuple[bool, float | None]:
    correct, margin = row.get("correct"), row.get("margin")
    if not isinstance(correct, bool):
        raise wrong("correct", "true or false", correct)
    return correct, None if margin is None else number(margin, "margin")


def judge_label_error(
    checks: Path | None, counts: Mapping[PairOutcome, int], checked: Sequence[CheckedRow] | None = None
) -> LabelError:
    """The label error of a project's judge.

    Args:
        checks: file for `read_checks`; it is preferred, because its rows may be the project's own comparisons.
        counts: counts of the `pairs` stage.
        checked: rows on which `judge_check` has compared the judge with people.

    Raises:
        TrainingError: if nothing was measured, or the judge is no better than a coin.
    """
    measured = _best_known(checks, counts, checked)
    if measured is None:
        raise TrainingError(
            "nothing was measured of the judge's errors",
            where="dpo.label_noise",
            remedy="name checked comparisons as dpo.label_checks, set judge_check, or ask the judge in both orders",
        )
    if measured.error > MAX_ERROR:
        raise TrainingError(
            f"the judge is wrong in {measured.error:.0%} of labels ({measured.source}), so they teach nothing",
            where="dpo.label_noise",
            remedy="use a better judge",
        )
    return measured


def _best_known(
    checks: Path | None, counts: Mapping[PairOutcome, int], checked: Sequence[CheckedRow] | None
) -> LabelError | None:
    disagreeing, decided = order_counts(counts)
    if checks is not None:
        correct, margins = read_checks(checks)
    else:
        correct = [row.correct for row in checked or []]
        margins = [row.margin for row in checked or []]
    if not correct and not disagreeing:
        return None
    return estimate_label_error(correct, margins, disagreeing=disagreeing, decided=decided)
