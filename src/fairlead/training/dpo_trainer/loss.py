"""DPO's loss as its paper writes it: pure functions of log-probabilities, which know no model, trainer or config.

Rafailov et al. 2023, "Direct Preference Optimization", arXiv 2305.18290. With a prompt x, its chosen answer y_w and its
rejected one y_l, the policy π and the reference π_ref:

    r(x, y) = β log(π(y | x) / π_ref(y | x))              implicit reward
    u       = r(x, y_w) − r(x, y_l)                       margin
    L       = −log σ(u), averaged over the pairs          eq. 7

If a label is wrong with probability ε, two losses take that into account:

    cDPO     (1 − ε) · (−log σ(u)) + ε · (−log σ(−u))               Mitchell, "A note on DPO with noisy preferences"
    robust   [(1 − ε) · (−log σ(u)) − ε · (−log σ(−u))] / (1 − 2ε)  Chowdhury et al. 2024, arXiv 2403.00409, eq. 12

cDPO has its minimum at u = log((1 − ε) / ε), so no pair is memorised. The robust loss has the expectation of the
loss on clean labels; its variance grows with 1 / (1 − 2ε)².
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid


def margin(log_π_w: Tensor, log_π_l: Tensor, log_π_ref_w: Tensor, log_π_ref_l: Tensor, β: float) -> Tensor:
    """[B] margin u of each pair.

    Args:
        log_π_w, log_π_l: [B] log π(y | x) of the chosen and of the rejected answers: sums over their tokens.
        log_π_ref_w, log_π_ref_l: [B], the same under the reference.
    """
    return β * (log_π_w - log_π_ref_w - log_π_l + log_π_ref_l)


def dpo_loss(u: Tensor, ε: Tensor | float = 0.0, *, robust: bool = False) -> Tensor:
    """[B] loss of each pair, from its [B] margin u; a mean is left to the caller.

    Args:
        ε: probability in [0, ½) that a label is wrong, one or [B]; with 0 the loss is eq. 7.
        robust: the robust loss instead of cDPO's.
    """
    right, wrong = -logsigmoid(u), -logsigmoid(-u)
    return ((1 - ε) * right - ε * wrong) / (1 - 2 * ε) if robust else (1 - ε) * right + ε * wrong


def gradient_weight(u: Tensor) -> Tensor:
    """[B] σ(−u) = −dL/du: the share of its full strength with which eq. 7 pulls a pair's answers apart."""
    return (-u).sigmoid()
