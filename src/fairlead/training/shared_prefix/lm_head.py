"""Log-probabilities of tokens straight from hidden states, without the logits of all tokens.

The language-model head of a small model with a large vocabulary costs as much as many of its layers, and its logits
are the largest tensor of a step. Here they are made block by block, some tokens by some words, and each block is used
up while the cache holds it. The normaliser is kept as it grows, relative to the largest logit so far (the online
softmax of Milakov and Gimelshein, arXiv 1805.02867), and where a gradient will be wanted the vector d log p / d hidden
grows with it:

    z = W h + b                                  logits
    log p(y) = z_y - log Σ_v exp z_v
    d log p(y) / d h = W_y - Σ_v p_v W_v         one more matrix product while exp z is at hand

so that the backward pass of a frozen head is one multiplication by the incoming gradient, and no softmax over the
vocabulary is ever computed twice. A trained head needs Σ_t g_t (1[v = y_t] - p_tv) h_t with the incoming gradients g,
known only in the backward pass; there its logits are computed again, block by block.

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
        slopes = torch.empty_like(hidden) if keep else None
        log_z = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
        with torch.autocast(hidden.device.type, enabled=False):
            mean = _mean_logit(hidden, weight, bias, settings) if "mean_logits" in settings.outputs else None
            rows, columns = _blocks(len(targets), weight.shape[0], hidden.device)
            for part in rows:
                running = _Running(targets[part], settings, mean is None, None if slopes is None else slopes[part])
                for words in columns:
                    piece, shift = weight[words], None if bias is None else bias[words]
                    running.add(*_logits(hidden[part], piece, shift, settings), piece, words.start)
                log_z[part] = running.log_z()
                parts.append(running.scores(weight))
        columns_of = [None if column[0] is None else torch.cat(column) for column in zip(*parts, strict=True)]
        log_probs, entropy, log_sum_sq, mean_logits, is_top1 = columns_of
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
        rows, columns = _blocks(len(targets), weight.shape[0], hidden.device)
        if to_weight is None and to_bias is None:
            rows = []
        with torch.autocast(hidden.device.type, enabled=False):
            for part in rows:
                seen = hidden[part].float()
                for words in columns:
                    shift = None if bias is None else bias[words]
                    logits, ratio = _logits(hidden[part], weight[words], shift, ctx.settings)
                    flow = _flow(logits.sub_(log_z[part, None]).exp_(), ratio, targets[part] - words.start)
                    flow.mul_(gradient[part, None] * ctx.settings.scale)
                    if to_weight is not None:
                        to_weight[words].addmm_(flow.T, seen)
                    if to_bias is not None:
                        to_bias[words] += flow.sum(dim=0)
        return (
            to_hidden,
            None if to_weight is None else to_weight.to(weight.dtype),
            None if to_bias is None else to_bias.to(bias.dtype),
            None,
            None,
            None,
        )


class _Running:
    """What is known of n tokens while their logits pass by, one block of the vocabulary after the other.

    Sums of exponentials are relative to the largest logit so far, and scaled down when a larger one comes.
    """

    def __init__(self, targets: Tensor, settings: HeadSettings, with_mean: bool, slope: Tensor | None) -> None:
        def zeros() -> Tensor:
            return torch.zeros(len(targets), dtype=torch.float32, device=targets.device)

        self.targets, self.slope = targets, slope
        self.scale, self.outputs = settings.scale, settings.outputs
        self.words = 0
        self.wanted = zeros()  # the target's logit
        self.steepness = torch.ones_like(self.wanted)  # 1 - tanh² at the target
        self.largest = torch.full_like(self.wanted, -torch.inf)
        self.total = zeros()  # Σ exp z
        self.weighed = zeros() if "entropy" in self.outputs else None  # Σ z exp z, z relative to the largest
        self.squared = zeros() if "log_sum_sq_probs" in self.outputs else None  # Σ exp 2z
        self.plain = zeros() if with_mean and "mean_logits" in self.outputs else None  # Σ z
        self.first = torch.zeros_like(targets, dtype=torch.bool) if "is_top1" in self.outputs else None
        self.pull: Tensor | None = None  # [n, H], Σ exp z (1 - tanh²) W

    def add(self, logits: Tensor, ratio: Tensor | None, weight: Tensor, start: int) -> None:
        """Takes the logits [n, v] of the words from `start` on in, and overwrites them.

        Args:
            ratio: tanh of the capped ratio, [n, v]; None without a soft cap.
            weight: these words' rows of the head, [v, H].
        """
        high = logits.amax(dim=1)
        self._find(logits, ratio, high, start)
        if self.plain is not None:
            self.plain += logits.sum(dim=1)
        largest = torch.maximum(self.largest, high)
        fall = (self.largest - largest).exp_()  # 0 at the first block
        if self.weighed is not None:
            drop = torch.where(self.total > 0, self.largest - largest, 0.0)
            self.weighed.add_(drop * self.total).mul_(fall)
        self.total *= fall
        self.largest = largest
        relative = logits.sub_(largest[:, None])
        powers = relative.exp() if self.weighed is not None else relative.exp_()
        self.total += powers.sum(dim=1)
        if self.weighed is not None:
            self.weighed += torch.linalg.vecdot(powers, relative)
        if self.squared is not None:
            self.squared.mul_(fall * fall).add_(torch.linalg.vecdot(powers, powers))
        if self.slope is not None:
            self._pull(powers if ratio is None else powers.mul_(1 - ratio * ratio), weight, fall)
        self.words += weight.shape[0]

    def _find(self, logits: Tensor, ratio: Tensor | None, high: Tensor, start: int) -> None:
        """Notes the targets that lie in this block."""
        place = self.targets - start
        here = (place >= 0) & (place < logits.shape[1])
        place = place.clamp(0, logits.shape[1] - 1)[:, None]
        found = logits.gather(1, place)[:, 0]
        self.wanted = torch.where(here, found, self.wanted)
        if ratio is not None:
            self.steepness = torch.where(here, 1 - ratio.gather(1, place)[:, 0] ** 2, self.steepness)
        if self.first is not None:
            rows = (here & (found >= high) & (found > self.largest)).nonzero()[:, 0]
            # Of equal logits, argmax would return the first.
            self.first[rows] = logits[rows].argmax(dim=1) == place[rows, 0]

    def _pull(self, powers: Tensor, weight: Tensor, fall: Tensor) -> None:
        if self.pull is None:
            self.pull = powers.to(weight.dtype).mm(weight).float()
        elif weight.dtype == torch.float32:
            self.pull.mul_(fall[:, None]).addmm_(powers, weight)
        else:
            self.pull.mul_(fall[:, None]).add_(powers.to(weight.dtype).mm(weight))

    def log_z(self) -> Tensor:
        """[n] log Σ exp z."""
        return self.largest + self.total.log()

    def scores(self, weight: Tensor) -> tuple[Tensor | None, ...]:
        """The fields of `TokenScores`; writes d log p / d hidden to `slope`."""
        log_z = self.log_z()
        if self.slope is not None and self.pull is not None:
            own = weight[self.targets].float() * self.steepness[:, None]
            self.slope.copy_(own.sub_(self.pull / self.total[:, None]).mul_(self.scale))
        return (
            self.wanted - log_z,
            None if self.weighed is None else self.total.log() - self.weighed / self.total,
            None if self.squared is None else (self.squared / self.total**2).log_(),
            None if self.plain is None else self.plain / self.words,
            None if self.first is None else self.first & (self.wanted >= self.largest),
        )


def _mean_logit(hidden: Tensor, weight: Tensor, bias: Tensor | None, settings: HeadSettings) -> Tensor | None:
    """[M] mean logits from the mean row of the head, which a soft cap does not allow."""
    if settings.softcap is not None:
        return None
    mean = hidden.float() @ weight.mean(dim=0, dtype=torch.float32)
    return settings.scale * (mean if bias is None else mean + bias.mean(dtype=torch.float32))


def _flow(probs: Tensor, ratio: Tensor | None, places: Tensor) -> Tensor:
    """[n, v] d log p(target) / d (W h / scale) over some words, in place of their probabilities.

    Args:
        places: [n], where the target stands among these words; outside of [0, v) for a target that does not.
    """
    flow = probs.neg_()
    here = (places >= 0) & (places < flow.shape[1])
    flow.scatter_add_(1, places.clamp(0, flow.shape[1] - 1)[:, None], here.to(flow.dtype)[:, None])
    return flow if ratio is None else flow.mul_(1 - ratio * ratio)
