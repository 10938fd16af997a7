"""Figures of a policy's own samples: how far it is from the reference, how long, how varied. Pure functions.

The distance is KL(π ‖ π_ref), estimated on samples y ~ π with Schulman's estimators ("Approximating KL Divergence",
2020). With the log-ratio d_t = log π(y_t | x, y_<t) − log π_ref(y_t | x, y_<t) of each token,

    k1 = Σ_t d_t                        unbiased; may be negative; its spread is that of the log-ratio itself
    k3 = Σ_t (exp(−d_t) − 1 + d_t)      unbiased, because E exp(−d_t) = 1 under π; never negative

Summing k3 over tokens instead of taking it of the whole sequence keeps it unbiased by the chain rule of KL, and its
exp stays in range: for a sequence exp(−Σd) is nearly always 0 and very rarely huge. Even so its tail is long, and the
standard error of a few samples, which have not seen the tail, is too small; that of k1 is not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LONGEST_LOOP = 16  # tokens of the longest block whose repetition is looked for
LOOP_REPEATS = 4  # times that a block must stand back to back
LOOP_TOKENS = 12  # tokens that the repetition must cover, so that "..." is none

_LARGEST_EXPONENT = 80.0  # exp of it is finite in every float type that is summed here


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its standard error, which is None for fewer than two samples."""

    value: float
    error: float | None


@dataclass(frozen=True, slots=True)
class KL:
    """KL from the reference in nats, per sequence and per token, by both estimators."""

    k1: Estimate
    k3: Estimate
    k1_token: Estimate
    k3_token: Estimate


def kl_estimates(log_ratios: Sequence[Any]) -> KL:
    """Estimates KL(π ‖ π_ref) from samples of π.

    Args:
        log_ratios: of each sample, [tokens] log π − log π_ref of its sampled tokens, the end token included.

    Raises:
        ValueError: if there is no sample, or one without tokens.
    """
    rows = [np.asarray(row, dtype=np.float64) for row in log_ratios]
    if not rows or any(len(row) == 0 for row in rows):
        raise ValueError("log_ratios: at least one sample is wanted, and no sample without tokens")
    tokens = np.array([len(row) for row in rows], dtype=np.float64)
    k1 = np.array([row.sum() for row in rows])
    k3 = np.array([(np.exp(np.minimum(-row, _LARGEST_EXPONENT)) - 1 + row).sum() for row in rows])
    return KL(mean_estimate(k1), mean_estimate(k3), ratio_estimate(k1, tokens), ratio_estimate(k3, tokens))


def mean_estimate(values: Any) -> Estimate:
    """The mean and its standard error s / √n."""
    x = np.asarray(values, dtype=np.float64)
    return Estimate(float(x.mean()), float(x.std(ddof=1) / math.sqrt(len(x))) if len(x) > 1 else None)


def ratio_estimate(sums: NDArray[np.float64], sizes: NDArray[np.float64]) -> Estimate:
    """Σ sums / Σ sizes with the linearised error of a ratio (Cochran 1977, eq. 6.13): samples are the units."""
    ratio = float(sums.sum() / sizes.sum())
    n = len(sums)
    if n < 2:
        return Estimate(ratio, None)
    spread = float(np.sqrt(np.sum((sums - ratio * sizes) ** 2) / (n - 1)))
    return Estimate(ratio, spread / (math.sqrt(n) * float(sizes.mean())))


def is_loop(tokens: Sequence[int]) -> bool:
    """Whether a block of at most `LONGEST_LOOP` tokens repeats back to back, `LOOP_REPEATS` times or more."""
    ids = np.asarray(tokens)
    for block in range(1, LONGEST_LOOP + 1):
        wanted = max((LOOP_REPEATS - 1) * block, LOOP_TOKENS - block)
        if len(ids) < wanted + block:
            continue
        run = 0
        for equal in ids[block:] == ids[:-block]:
            run = run + 1 if equal else 0
            if run >= wanted:
                return True
    return False


def distinct_n(samples: Sequence[Sequence[int]], n: int) -> float | None:
    """Distinct n-grams over all n-grams of all samples (Li et al. 2016, arXiv 1510.03055); None without any."""
    grams = [tuple(row[i : i + n]) for row in samples for i in range(len(row) - n + 1)]
    return len(set(grams)) / len(grams) if grams else None
