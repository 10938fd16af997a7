"""KL(π ‖ π_ref), the distance of a policy from its reference, in nats. Pure functions.

All estimates rest on answers y ~ π sampled at temperature 1. `answer_kl` takes the divergence of each next-token
distribution over the whole vocabulary and sums it over the answer,

    KL(y) = Σ_t KL(π(· | x, y_<t) ‖ π_ref(· | x, y_<t)),

the Rao-Blackwellised estimator (Amini, Vieira and Cotterell 2025, arXiv 2504.10637, section 4): unbiased like the
log-ratio of the sampled tokens, with less variance and never negative. It needs the logits of both models.

`kl_estimates` needs only the log-ratio of the sampled tokens, d_t = log π(y_t | x, y_<t) − log π_ref(y_t | x, y_<t),
and gives Schulman's estimators ("Approximating KL Divergence", 2020):

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
from torch import Tensor

_LARGEST_EXPONENT = 80.0  # exp of it is finite in every float type that is summed here


def answer_kl(logits: Tensor, reference: Tensor) -> float:
    """Σ over the tokens of an answer of KL(π ‖ π_ref) of the next token, in nats; at least 0.

    Args:
        logits: [tokens, V] float32 logits of the policy from which the answer's tokens were drawn.
        reference: [tokens, V] float32 logits of the reference at the same positions.
    """
    log_p, log_q = logits.log_softmax(-1), reference.log_softmax(-1)
    terms = log_p.exp() * (log_p - log_q)
    return max(0.0, float(terms.nansum()))  # a token that both rule out gives 0 · (∞ - ∞)


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
    """Estimates KL(π ‖ π_ref) from the sampled tokens alone.

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
