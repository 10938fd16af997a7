"""KL(π ‖ π_ref), how far a policy has moved from its reference, in nats. The one estimate that Fairlead shows.

It rests on answers y ~ π sampled at temperature 1. At each token of an answer the divergence of the two next-token
distributions is exact, over the whole vocabulary; the answer's KL is their sum:

    KL(y) = Σ_t KL(π(· | x, y_<t) ‖ π_ref(· | x, y_<t)),    E_{y ~ π} KL(y) = KL(π(· | x) ‖ π_ref(· | x))

This is the Rao-Blackwellised estimator of the KL of whole answers (Amini, Vieira and Cotterell 2025, "Better Estimation
of the KL Divergence Between Language Models", arXiv 2504.10637, section 4). The log-ratio of the sampled tokens,
log π(y) - log π_ref(y), has the same expectation; it is what TRL's RLOO and, as `k1`, VeRL and OpenRLHF compute
(Schulman, "Approximating KL Divergence", 2020). The KL of a token is never negative and has at most the variance of its
log-ratio; in practice the sum spreads far less. VeRL names the divergence over the whole vocabulary `full`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairlead.models.log_probs import Scored, answer_logits, batches, vocabulary_size

HELD_LOGITS = 2**28
"""Logits of the policy that wait for the reference's: numbers of float32, one GiB."""

_CHUNK = 2**22  # numbers of float32 in a chunk of tokens, 16 MiB

ModelInUse = Callable[[], AbstractContextManager[Any]]
"""Gives a causal LM in evaluation mode for the duration of a block."""


def answer_kls(
    policy: ModelInUse,
    reference: ModelInUse,
    rows: Sequence[Scored],
    *,
    pad_id: int,
    batch_size: int,
    held_logits: int = HELD_LOGITS,
) -> list[float]:
    """KL(y) of every answer, in nats; at least 0.

    Policy and reference are entered in turns, because they may be one model with other weights, or may not fit into
    memory together. The policy's logits are held until the reference's are there.

    Args:
        rows: prompts with answers that the policy drew at temperature 1, whose tokens are the scored ones. An answer
            that a token limit cut counts as far as it goes.
        pad_id: token id of the padding, on the right, where causal attention cannot see it.
        batch_size: rows computed at once; fewer where their logits would take more than a GiB.
        held_logits: numbers that may be held, unless one answer has more. A larger limit means fewer turns.
    """
    if not rows:
        return []
    with policy() as model:
        vocabulary = vocabulary_size(model)
    order = sorted(range(len(rows)), key=lambda n: -len(rows[n].tokens))
    kls = [0.0] * len(rows)
    for run in runs_within([rows[n].counted for n in order], held_logits // vocabulary):
        members = order[run]
        parts = [[members[n] for n in part] for part in batches([rows[n] for n in members], batch_size, vocabulary)]
        with policy() as model:
            held = [answer_logits(model, [rows[n] for n in part], pad_id) for part in parts]
        with reference() as model:
            for part in parts:
                theirs = answer_logits(model, [rows[n] for n in part], pad_id)
                for n, p, q in zip(part, held.pop(0), theirs, strict=True):
                    kls[n] = float(next_token_kls(p, q).sum(dtype=torch.float64))
    return kls


@torch.no_grad()
def next_token_kls(policy: Tensor, reference: Tensor) -> Tensor:
    """[tokens] KL(π ‖ π_ref) of the distribution from which each token is drawn, in nats; at least 0.

    Args:
        policy, reference: [tokens, V] float32 logits at the same positions.
    """
    size = max(1, _CHUNK // policy.shape[1])
    parts = zip(torch.split(policy, size), torch.split(reference, size), strict=True)
    return torch.cat([_chunk_kls(p, q) for p, q in parts])


def _chunk_kls(policy: Tensor, reference: Tensor) -> Tensor:
    log_p = policy.log_softmax(-1)
    terms = (log_p - reference.log_softmax(-1)).mul_(log_p.exp())
    terms.masked_fill_(log_p == -torch.inf, 0.0)  # 0 · log 0 is 0, also where the reference rules the token out too
    return terms.sum(-1).clamp_(min=0.0)  # rounding may give less than 0


def runs_within(tokens: Sequence[int], max_tokens: int) -> Iterator[slice]:
    """Runs of answers, in order, of at most `max_tokens` tokens together; a longer answer is a run by itself."""
    start = run_tokens = 0
    for at, count in enumerate(tokens):
        if at > start and run_tokens + count > max_tokens:
            yield slice(start, at)
            start, run_tokens = at, 0
        run_tokens += count
    if start < len(tokens):
        yield slice(start, len(tokens))


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its standard error, which is None for fewer than two answers."""

    value: float
    error: float | None


def per_answer(kls: Sequence[float]) -> Estimate:
    """Mean KL of an answer, in nats, with its standard error s / √n."""
    x = np.asarray(kls, dtype=np.float64)
    return Estimate(float(x.mean()), float(x.std(ddof=1) / math.sqrt(len(x))) if len(x) > 1 else None)


def per_token(kls: Sequence[float], lengths: Sequence[int]) -> Estimate:
    """Σ KL(y) / Σ |y|, in nats, with the linearised error of a ratio (Cochran 1977, eq. 6.13): answers are the units.

    Args:
        lengths: tokens of each answer.
    """
    sums, sizes = np.asarray(kls, dtype=np.float64), np.asarray(lengths, dtype=np.float64)
    ratio, n = float(sums.sum() / sizes.sum()), len(sums)
    if n < 2:
        return Estimate(ratio, None)
    spread = float(np.sqrt(np.sum((sums - ratio * sizes) ** 2) / (n - 1)))
    return Estimate(ratio, spread / (math.sqrt(n) * float(sizes.mean())))
