"""Log-probabilities of tokens straight from hidden states, without the logits of all tokens.

The language-model head of a small model with a large vocabulary costs as much as many of its layers, and its logits
are the largest tensor of a step. Here the logits are computed block by block, some scored tokens by some words of the
vocabulary, and each block is used while it is in the cache. The normaliser Σ exp z is accumulated relative to the
largest logit so far (online softmax: Milakov and Gimelshein, arXiv 1805.02867). If a gradient is needed, the vector
d log p / d hidden is accumulated in the same pass:

    z = W h + b                                  logits
    log p(y) = z_y - log Σ_v exp z_v
    d log p(y) / d h = W_y - Σ_v p_v W_v         one more matrix product while exp z is at hand

So the backward pass of a frozen head is one multiplication by the incoming gradient, and no softmax over the
vocabulary is computed twice. A trained head needs Σ_t g_t (1[v = y_t] - p_tv) h_t with the incoming gradients g, which
are known only in the backward pass; there its logits are computed again, block by block.

Logits can be scaled and soft-capped, z ← c · tanh(a z / c); the formulas above then carry the factor
d z / d (W h) = a (1 - tanh²).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

BLOCKS = {"cpu": (512, 8192), "cuda": (4096, 16_384)}
"""Tokens and words of a block of logits: 16 MiB in float32 for a CPU's cache, 256 MiB to fill a GPU."""

OUTPUTS = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")


@dataclass(frozen=True)
class HeadSettings:
    """What a model does to its logits, and which figures of them to compute.

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


def _blocks(tokens: int, words: int, device: torch.device) -> tuple[list[slice], list[slice]]:
    """Slices of the tokens, and of the vocabulary; their logits are a block."""
    high, wide = BLOCKS["cpu" if device.type == "cpu" else "cuda"]
    rows = [slice(start, min(start + high, tokens)) for start in range(0, tokens, high)]
    return rows, [slice(start, min(start + wide, words)) for start in range(0, words, wide)]


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
        keep = with_gradient and ctx.needs_input_grad[0]
        parts: list[tuple[Tensor | None, ...]] = []
        dlogp_dhidden = torch.empty_like(hidden) if keep else None
        log_z = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
        with torch.autocast(hidden.device.type, enabled=False):
            mean = _mean_logit(hidden, weight, bias, settings) if "mean_logits" in settings.outputs else None
            rows, columns = _blocks(len(targets), weight.shape[0], hidden.device)
            for part in rows:
                gradient = None if dlogp_dhidden is None else dlogp_dhidden[part]
                sums = _RunningSums(targets[part], settings, mean is None, gradient)
                for words in columns:
                    block, shift = weight[words], None if bias is None else bias[words]
                    sums.add(*_logits(hidden[part], block, shift, settings), block, words.start)
                log_z[part] = sums.log_z()
                parts.append(sums.scores(weight))
        columns_of = [None if column[0] is None else torch.cat(column) for column in zip(*parts, strict=True)]
        log_probs, entropy, log_sum_sq, mean_logits, is_top1 = columns_of
        mean_logits = mean if mean is not None else mean_logits
        ctx.save_for_backward(dlogp_dhidden, hidden, weight, bias, targets, log_z)
        ctx.settings = settings
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*(x for x in (entropy, log_sum_sq, mean_logits, is_top1) if x is not None))
        return log_probs, entropy, log_sum_sq, mean_logits, is_top1

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, *others: Tensor | None) -> tuple[Tensor | None, ...]:
        del others
        dlogp_dhidden, hidden, weight, bias, targets, log_z = ctx.saved_tensors
        if gradient is None:
            return (None,) * 6
        to_hidden = None if dlogp_dhidden is None else (dlogp_dhidden * gradient[:, None]).to(hidden.dtype)
        to_weight = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        to_bias = torch.zeros_like(bias, dtype=torch.float32) if ctx.needs_input_grad[2] else None
        rows, columns = _blocks(len(targets), weight.shape[0], hidden.device)
        if to_weight is None and to_bias is None:
            rows = []
        with torch.autocast(hidden.device.type, enabled=False):
            for part in rows:
                states = hidden[part].float()
                for words in columns:
                    shift = None if bias is None else bias[words]
                    logits, ratio = _logits(hidden[part], weight[words], shift, ctx.settings)
                    probs = logits.sub_(log_z[part, None]).exp_()
                    to_logits = _dlogp_dlogits(probs, ratio, targets[part] - words.start)
                    to_logits.mul_(gradient[part, None] * ctx.settings.scale)
                    if to_weight is not None:
                        to_weight[words].addmm_(to_logits.T, states)
                    if to_bias is not None:
                        to_bias[words] += to_logits.sum(dim=0)
        return (
            to_hidden,
            None if to_weight is None else to_weight.to(weight.dtype),
            None if to_bias is None else to_bias.to(bias.dtype),
            None,
            None,
            None,
        )


class _RunningSums:
    """Sums over the vocabulary for n scored tokens, accumulated one block of words after the other.

    Sums of exponentials are relative to the largest logit so far, and scaled down when a larger one comes.
    """

    def __init__(self, targets: Tensor, settings: HeadSettings, with_mean: bool, dlogp_dhidden: Tensor | None) -> None:
        def zeros() -> Tensor:
            return torch.zeros(len(targets), dtype=torch.float32, device=targets.device)

        self.targets, self.dlogp_dhidden = targets, dlogp_dhidden
        self.scale, self.outputs = settings.scale, settings.outputs
        self.vocabulary = 0
        self.target_logit = zeros()
        self.target_slope = torch.ones_like(self.target_logit)  # 1 - tanh² at the target
        self.largest = torch.full_like(self.target_logit, -torch.inf)
        self.sum_exp = zeros()  # Σ exp z
        self.sum_z_exp = zeros() if "entropy" in self.outputs else None  # Σ z exp z, z relative to the largest
        self.sum_exp_sq = zeros() if "log_sum_sq_probs" in self.outputs else None  # Σ exp 2z
        self.sum_z = zeros() if with_mean and "mean_logits" in self.outputs else None  # Σ z
        self.target_is_top = torch.zeros_like(targets, dtype=torch.bool) if "is_top1" in self.outputs else None
        self.weighted_rows: Tensor | None = None  # [n, H], Σ exp z (1 - tanh²) W

    def add(self, logits: Tensor, ratio: Tensor | None, weight: Tensor, start: int) -> None:
        """Adds the logits [n, v] of the words from number `start` on, and overwrites them.

        Args:
            ratio: tanh of the capped ratio, [n, v]; None without a soft cap.
            weight: these words' rows of the head, [v, H].
        """
        high = logits.amax(dim=1)
        self._find_targets(logits, ratio, high, start)
        if self.sum_z is not None:
            self.sum_z += logits.sum(dim=1)
        largest = torch.maximum(self.largest, high)
        rescale = (self.largest - largest).exp_()  # 0 at the first block
        if self.sum_z_exp is not None:
            shift = torch.where(self.sum_exp > 0, self.largest - largest, 0.0)
            self.sum_z_exp.add_(shift * self.sum_exp).mul_(rescale)
        self.sum_exp *= rescale
        self.largest = largest
        relative = logits.sub_(largest[:, None])
        exponentials = relative.exp() if self.sum_z_exp is not None else relative.exp_()
        self.sum_exp += exponentials.sum(dim=1)
        if self.sum_z_exp is not None:
            self.sum_z_exp += torch.linalg.vecdot(exponentials, relative)
        if self.sum_exp_sq is not None:
            self.sum_exp_sq.mul_(rescale * rescale).add_(torch.linalg.vecdot(exponentials, exponentials))
        if self.dlogp_dhidden is not None:
            factors = exponentials if ratio is None else exponentials.mul_(1 - ratio * ratio)
            self._add_weighted_rows(factors, weight, rescale)
        self.vocabulary += weight.shape[0]

    def _find_targets(self, logits: Tensor, ratio: Tensor | None, high: Tensor, start: int) -> None:
        """Takes the logits of the targets that lie in this block."""
        place = self.targets - start
        here = (place >= 0) & (place < logits.shape[1])
        place = place.clamp(0, logits.shape[1] - 1)[:, None]
        logit = logits.gather(1, place)[:, 0]
        self.target_logit = torch.where(here, logit, self.target_logit)
        if ratio is not None:
            self.target_slope = torch.where(here, 1 - ratio.gather(1, place)[:, 0] ** 2, self.target_slope)
        if self.target_is_top is not None:
            rows = (here & (logit >= high) & (logit > self.largest)).nonzero()[:, 0]
            # Of equal logits, argmax would return the first.
            self.target_is_top[rows] = logits[rows].argmax(dim=1) == place[rows, 0]

    def _add_weighted_rows(self, factors: Tensor, weight: Tensor, rescale: Tensor) -> None:
        """Adds Σ factor · W over this block, after scaling what was there to the new largest logit."""
        if self.weighted_rows is None:
            self.weighted_rows = factors.to(weight.dtype).mm(weight).float()
        elif weight.dtype == torch.float32:
            self.weighted_rows.mul_(rescale[:, None]).addmm_(factors, weight)
        else:
            self.weighted_rows.mul_(rescale[:, None]).add_(factors.to(weight.dtype).mm(weight))

    def log_z(self) -> Tensor:
        """[n] log Σ exp z."""
        return self.largest + self.sum_exp.log()

    def scores(self, weight: Tensor) -> tuple[Tensor | None, ...]:
        """The fields of `TokenScores`; writes d log p / d hidden to `dlogp_dhidden`."""
        log_z = self.log_z()
        if self.dlogp_dhidden is not None and self.weighted_rows is not None:
            target_rows = weight[self.targets].float() * self.target_slope[:, None]
            self.dlogp_dhidden.copy_(target_rows.sub_(self.weighted_rows / self.sum_exp[:, None]).mul_(self.scale))
        return (
            self.target_logit - log_z,
            None if self.sum_z_exp is None else self.sum_exp.log() - self.sum_z_exp / self.sum_exp,
            None if self.sum_exp_sq is None else (self.sum_exp_sq / self.sum_exp**2).log_(),
            None if self.sum_z is None else self.sum_z / self.vocabulary,
            None if self.target_is_top is None else self.target_is_top & (self.target_logit >= self.largest),
        )


def _mean_logit(hidden: Tensor, weight: Tensor, bias: Tensor | None, settings: HeadSettings) -> Tensor | None:
    """[M] mean logits from the mean row of the head, which a soft cap does not allow."""
    if settings.softcap is not None:
        return None
    mean = hidden.float() @ weight.mean(dim=0, dtype=torch.float32)
    return settings.scale * (mean if bias is None else mean + bias.mean(dtype=torch.float32))


def _dlogp_dlogits(probs: Tensor, ratio: Tensor | None, places: Tensor) -> Tensor:
    """[n, v] d log p(target) / d (W h / scale) for some words, written over their probabilities.

    Args:
        places: [n], where the target stands among these words; outside of [0, v) for a target that does not.
    """
    gradient = probs.neg_()
    here = (places >= 0) & (places < gradient.shape[1])
    gradient.scatter_add_(1, places.clamp(0, gradient.shape[1] - 1)[:, None], here.to(gradient.dtype)[:, None])
    return gradient if ratio is None else gradient.mul_(1 - ratio * ratio)
