"""What `make architectures` measures of one model: how it is trained and how it is decoded, and how exactly."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fairlead.models.batch_generate import generate_in_batches
from fairlead.models.continuous_batching import DecodeRequest, decode, why_unsupported
from fairlead.records import Sampling
from fairlead.training.shared_prefix.forward import share_prefixes
from fairlead.training.trl_compat import add_log_prob_head

IGNORED = -100
_SEED_PROMPTS = (2, 9, 4, 7, 9)  # lengths of the prompts that are decoded
_NEW_TOKENS = 12


@dataclass(frozen=True)
class Trained:
    """How a model computes a batch of training, and how far its values are from the padded batch's.

    Attributes:
        way: `packed`, `carried`, `rows` or `trl`; see `PackedForward`.
        why: why it is not the packed row; None where it is.
        long_rows: whether this batch, whose rows are longer than a window, was computed row by row for that reason.
        log_probs: largest difference of a scored token's log-probability.
        gradients: largest relative difference of a weight's gradient.
        by_trl: whether the padded batch could be computed by TRL's forward; else it was by the model's own logits.
    """

    way: str
    why: str | None
    long_rows: bool
    log_probs: float
    gradients: float
    by_trl: bool


class _Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += record.getMessage()


def padded_batch() -> dict[str, Tensor]:
    """Eight rows of four prompts, two of which begin alike; two rows are equal, and answers have 1 to 7 tokens."""
    draw = torch.Generator().manual_seed(0)

    def text(length: int) -> list[int]:
        return torch.randint(3, 97, (length,), generator=draw).tolist()

    long, short, system = text(20), text(4), text(20)
    one, other = system + text(2), system + text(4)
    a, b, c, d = text(3), text(7), text(5), text(1)
    rows = [(long, a), (short, c), (long, b), (short, d), (long, a), (one, a), (other, c), (one, b)]
    width = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.long)
    labels = torch.full_like(ids, IGNORED)
    for n, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        ids[n, :end], mask[n, :end] = torch.tensor(prompt + answer), 1
        labels[n, len(prompt) : end] = torch.tensor(answer)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def check_training(ours: Any) -> Trained:
    """Compares the model's forward with the one of TRL."""
    theirs = copy.deepcopy(ours)
    for model in (ours, theirs):
        add_log_prob_head(model)
    log = logging.getLogger("fairlead.training.shared_prefix.forward")
    heard, spreads = _Heard(), log.propagate
    log.addHandler(heard)
    log.propagate = False
    try:
        packed = share_prefixes(ours)
        batch = padded_batch()
        try:
            mine = _backward(ours, _of_head(ours, batch))
        except Exception:  # TRL's own forward does not know the model either
            mine = _backward(ours, _of_logits(ours, batch))
    finally:
        log.removeHandler(heard)
        log.propagate = spreads
    try:
        expected, by_trl = _of_head(theirs, batch), True
    except Exception:
        expected, by_trl = _of_logits(theirs, batch), False
    other = _backward(theirs, expected)
    why = None if packed.not_packed is None else packed.not_packed.split(": ", 1)[-1]
    return Trained(
        packed.way, why, "a row is longer than" in heard.text, _largest(mine, other), _gradients(ours, theirs), by_trl
    )


def _of_head(model: Any, batch: dict[str, Tensor]) -> Tensor:
    log_probs: Tensor = model(**batch, use_cache=False, fused_lm_head=True).log_probs
    return log_probs


def _of_logits(model: Any, batch: dict[str, Tensor]) -> Tensor:
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
    labels = batch["labels"][:, 1:]
    log_probs = logits[:, :-1].float().log_softmax(-1).gather(2, labels.clamp(min=0)[..., None])[..., 0]
    return log_probs.masked_fill(labels == IGNORED, 0.0)


def _backward(model: Any, log_probs: Tensor) -> Tensor:
    """Gradients of a weighted sum, in which no token's cancels another's."""
    model.zero_grad()
    (log_probs * torch.linspace(-1, 1, log_probs.numel()).view_as(log_probs)).sum().backward()
    return log_probs.detach()


def _largest(mine: Tensor, other: Tensor) -> float:
    return float((mine - other).abs().max())


def _gradients(ours: Any, theirs: Any) -> float:
    """The largest difference of a weight's gradient, relative to its norm, or to a thousandth of the largest norm.

    Some gradients are nothing but rounding: that of a key's bias is 0.
    """
    pairs = [(p.grad, q.grad) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True)]
    largest = max(float(other.norm()) for _, other in pairs if other is not None)
    worst = 0.0
    for mine, other in pairs:
        if other is not None:
            difference = other if mine is None else mine - other
            worst = max(worst, float(difference.norm()) / max(float(other.norm()), 1e-3 * largest))
    return worst


def check_decoding(model: Any) -> tuple[bool, str | None]:
    """Whether the engine decodes what `model.generate` does, token by token; and why it does not decode it, if so."""
    why = why_unsupported(model)
    if why is not None:
        return False, why
    draw = torch.Generator().manual_seed(2)
    prompts = [torch.randint(3, 97, (length,), generator=draw).tolist() for length in _SEED_PROMPTS]
    requests = [DecodeRequest(prompt, Sampling(0.0, 1.0, _NEW_TOKENS)) for prompt in prompts]
    one_by_one = generate_in_batches(model, requests, batch_size=1, eos_ids=set(), pad_id=0)
    return decode(model, requests, batch_size=2, eos_ids=set(), pad_id=0) == one_by_one, None
