"""Log-probabilities of tokens straight from hidden states, without the logits of all tokens.

The language-model head of a small model with a large vocabulary costs as much as many of its layers, and its logits
are the largest tensor of a step. Here tokens pass through the head in chunks. For each chunk the forward pass keeps
log p and, where a gradient will be wanted, the vector d log p / d hidden:

    z = W h + b                                  logits
    log p(y) = z_y - log Σ_v exp z_v
    d log p(y) / d h = W_y - Σ_v p_v W_v         one more matrix product while p is at hand

so that the backward pass of a frozen head is one multiplication by the incoming gradient, and no softmax over the
vocabulary is ever computed twice. A trained head needs Σ_t g_t (1[v = y_t] - p_tv) h_t with the incoming gradients g,
known only in the backward pass; there its logits are computed again, chunk by chunk.

Logits can be scaled and soft-capped, z ← c · tanh(a z / c); the formulas above then carry the factor
d z / d (W h) = a (1 - tanh²).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

CHUNK_ELEMENTS = 1 << 22
"""Logits in one chunk; 16 MiB in float32, which a CPU's last-level cache holds."""

OUTPUTS = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")


@dataclass(frozen=True)
class HeadSettings:
    """What a model does to its logits, and what is wanted of them.

    Attributes:
        scale: factor of the logits.
        softcap: bound of the logits; None for none.
        outputs: which of `OUTPUTS` to compute besides `log_probs`.
    """

    scale: float = 1.0
    softcap: float | None = None
    outputs: tuple[str, ...] = ("log_probs",)


@dataclass(frozen=True)
class TokenScores:
    """Per scored token, [M] each; None where not asked for. Only `log_probs` carries a gradient.

    Attributes:
        log_probs: log p of the token, float32.
        entropy: -Σ p log p, in nats.
        log_sum_sq_probs: log Σ p².
        mean_logits: mean logit over the vocabulary.
        is_top1: whether the token is the first of the most likely ones.
    """

    log_probs: Tensor
    entropy: Tensor | None
    log_sum_sq_probs: Tensor | None
    mean_logits: Tensor | None
    is_top1: Tensor | None


def token_scores(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, settings: HeadSettings
) -> TokenScores:
    """Scores of `targets` under the head.

    Args:
        hidden: [M, H], the states that predict the tokens.
        weight: [V, H].
        bias: [V] or None.
        targets: [M], token numbers.
    """
    if torch.is_autocast_enabled(hidden.device.type):
        # Once for all chunks; autocast itself would convert the weight anew for every chunk.
        dtype = torch.get_autocast_dtype(hidden.device.type)
        hidden, weight, bias = hidden.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    elif weight.dtype != hidden.dtype:
        weight, bias = weight.to(hidden.dtype), None if bias is None else bias.to(hidden.dtype)
    scores = _TokenScores.apply(hidden, weight, bias, targets, settings, torch.is_grad_enabled())  # type: ignore[no-untyped-call]
    return TokenScores(*scores)


def _chunks(tokens: int, vocabulary: int) -> list[slice]:
    """Slices of tokens whose logits stay near `CHUNK_ELEMENTS`; at least 32 tokens, or the product turns slow."""
    size = max(32, CHUNK_ELEMENTS // vocabulary)
    return [slice(start, min(start + size, tokens)) for start in range(0, tokens, size)]


def _logits(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, settings: HeadSettings
) -> tuple[Tensor, Tensor | None]:
    """[n, V] logits in float32 and, under a soft cap, tanh of the capped ratio."""
    raw = hidden @ weight.T if bias is None else torch.addmm(bias, hidden, weight.T)
    logits = raw.float()
    if settings.scale != 1.0:
        logits = logits * settings.scale
    if settings.softcap is None:
        return logits, None
    ratio = torch.tanh(logits / settings.softcap)
    return ratio * settings.softcap, ratio


class _TokenScores(torch.autograd.Function):
    """See the module's docstring for the formulas."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        settings: HeadSettings,
        with_gradient: bool,
    ) -> tuple[Tensor | None, ...]:
        with torch.autocast(hidden.device.type, enabled=False):
            keep = with_gradient and ctx.needs_input_grad[0]
            parts: list[tuple[Tensor | None, ...]] = []
            slopes = torch.empty_like(hidden) if keep else None
            log_z = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
            mean = _mean_logit(hidden, weight, bias, settings) if "mean_logits" in settings.outputs else None
            for part in _chunks(len(targets), weight.shape[0]):
                logits, ratio = _logits(hidden[part], weight, bias, settings)
                slope = None if slopes is None else slopes[part]
                scores = _score_chunk(logits, targets[part], settings.outputs, log_z[part])
                parts.append(scores)
                if slope is not None:
                    _slope(logits, ratio, targets[part], weight, settings, slope)
        columns = [None if column[0] is None else torch.cat(column) for column in zip(*parts, strict=True)]
        log_probs, entropy, log_sum_sq, mean_logits, is_top1 = columns
        mean_logits = mean if mean is not None else mean_logits
        ctx.save_for_backward(slopes, hidden, weight, bias, targets, log_z)
        ctx.settings = settings
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*(x for x in (entropy, log_sum_sq, mean_logits, is_top1) if x is not None))
        return log_probs, entropy, log_sum_sq, mean_logits, is_top1

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, *others: Tensor | None) -> tuple[Tensor | None, ...]:
        del others
        slopes, hidden, weight, bias, targets, log_z = ctx.saved_tensors
        if gradient is None:
            return (None,) * 6
        to_hidden = None if slopes is None else (slopes * gradient[:, None]).to(hidden.dtype)
        to_weight = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        to_bias = torch.zeros_like(bias, dtype=torch.float32) if ctx.needs_input_grad[2] else None
        if to_weight is not None or to_bias is not None:
            with torch.autocast(hidden.device.type, enabled=False):
                for part in _chunks(len(targets), weight.shape[0]):
                    logits, ratio = _logits(hidden[part], weight, bias, ctx.settings)
                    probs = logits.sub_(log_z[part, None]).exp_()
                    flow = _flow(probs, ratio, targets[part], ctx.settings).mul_(gradient[part, None])
                    if to_weight is not None:
                        to_weight.addmm_(flow.T, hidden[part].float())
                    if to_bias is not None:
                        to_bias += flow.sum(dim=0)
        return (
            to_hidden,
            None if to_weight is None else to_weight.to(weight.dtype),
            None if to_bias is None else to_bias.to(bias.dtype),
            None,
            None,
            None,
        )


def _mean_logit(hidden: Tensor, weight: Tensor, bias: Tensor | None, settings: HeadSettings) -> Tensor | None:
    """[M] mean logits from the mean row of the head, which a soft cap does not allow."""
    if settings.softcap is not None:
        return None
    mean = hidden.float() @ weight.mean(dim=0, dtype=torch.float32)
    return settings.scale * (mean if bias is None else mean + bias.mean(dtype=torch.float32))


def _score_chunk(logits: Tensor, targets: Tensor, outputs: tuple[str, ...], log_z: Tensor) -> tuple[Tensor | None, ...]:
    """The outputs of one chunk; leaves the probabilities in `logits` and the normaliser in `log_z`."""
    wanted = logits.gather(1, targets[:, None])[:, 0]
    largest = logits.amax(dim=1)
    is_top1 = _first_of_largest(logits, wanted, largest, targets) if "is_top1" in outputs else None
    probs = torch.softmax(logits, dim=1)
    log_z.copy_(largest - probs.amax(dim=1).log_())  # the largest probability is exp(largest) / Z
    entropy = log_z - torch.linalg.vecdot(probs, logits) if "entropy" in outputs else None
    log_sum_sq = torch.linalg.vecdot(probs, probs).log_() if "log_sum_sq_probs" in outputs else None
    mean = logits.mean(dim=1) if "mean_logits" in outputs else None
    logits.copy_(probs)
    return wanted - log_z, entropy, log_sum_sq, mean, is_top1


def _first_of_largest(logits: Tensor, wanted: Tensor, largest: Tensor, targets: Tensor) -> Tensor:
    """Whether the target is what argmax would return: a tie goes to the token that comes first."""
    top = wanted >= largest
    rows = top.nonzero()[:, 0]
    top[rows] = logits[rows].argmax(dim=1) == targets[rows]
    return top


def _flow(probs: Tensor, ratio: Tensor | None, targets: Tensor, settings: HeadSettings) -> Tensor:
    """[n, V] d log p(target) / d (W h), in place of the probabilities."""
    flow = probs.neg_()
    flow.scatter_add_(1, targets[:, None], torch.ones_like(flow[:, :1]))
    if ratio is not None:
        flow.mul_(1 - ratio * ratio)
    return flow.mul_(settings.scale) if settings.scale != 1.0 else flow


def _slope(
    probs: Tensor, ratio: Tensor | None, targets: Tensor, weight: Tensor, settings: HeadSettings, out: Tensor
) -> None:
    """Writes [n, H] d log p(target) / d hidden to `out`."""
    torch.mm(_flow(probs, ratio, targets, settings).to(weight.dtype), weight, out=out)
