"""A check before the first step: the policy is the reference, so log-ratios must be 0 and DPO's loss ln 2."""

from __future__ import annotations

import torch

from fairlead.errors import ReferenceMismatchError
from fairlead.training.dpo_trainer.loss import dpo_loss
from fairlead.training.trl_compat import OpenDPOTrainer

_PAIRS, _AMONG = 2, 64  # how many pairs are computed, the shortest among the first
_TOKEN_COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids")


def check_policy_is_reference(trainer: OpenDPOTrainer, reference: str | None) -> None:
    """Computes a few pairs as the training will, in evaluation mode, and compares the figures with what theory says.

    Args:
        reference: hash of the reference, for the message.

    Raises:
        ReferenceMismatchError: naming the reference and the figures.
    """
    loss, log_ratio = _first_figures(trainer)
    exact = trainer.model.dtype == torch.float32 and trainer.accelerator.mixed_precision == "no"
    tolerance = 1e-3 if exact else 0.5  # sums over tokens, in which bfloat16 rounds
    weight = trainer.loss_weights[0]
    expected = weight * float(dpo_loss(torch.zeros(())))
    # The loss moves by half of β times the log-ratios.
    wrong_loss = _has_plain_loss(trainer) and abs(loss - expected) > max(1e-4, tolerance * trainer.beta) * weight
    if wrong_loss or not log_ratio <= tolerance:
        raise ReferenceMismatchError(
            f"before the first step the policy is not the reference {reference}: "
            f"log-ratio {log_ratio:.4g} instead of 0, loss {loss:.4g} instead of {expected:.4g}",
            where="dpo",
            remedy="train from the model that the reference is; for a reference of your own pass ref_model",
        )


def _first_figures(trainer: OpenDPOTrainer) -> tuple[float, float]:
    """The loss of a few pairs, and the larger of the mean log-ratios of chosen and rejected answers."""
    rows = [trainer.train_dataset[i] for i in range(min(_AMONG, len(trainer.train_dataset)))]
    # The shortest cost least, and bfloat16 rounds them least.
    rows = sorted(rows, key=lambda row: sum(len(row.get(column, ())) for column in _TOKEN_COLUMNS))[:_PAIRS]
    training = trainer.model.training
    trainer.model.eval()
    metrics = trainer.batch_metrics("eval")
    metrics.clear()
    loss, _, _ = trainer.prediction_step(trainer.model_wrapped, trainer.data_collator(rows), prediction_loss_only=True)
    rewards = [metrics[f"rewards/{side}"][0] for side in ("chosen", "rejected")]
    metrics.clear()
    trainer.model.train(training)
    return float(loss), max(abs(reward) for reward in rewards) / trainer.beta


def _has_plain_loss(trainer: OpenDPOTrainer) -> bool:
    """Whether the loss is DPO's own and nothing else, so that its figure is known."""
    plain = trainer.loss_types == ["sigmoid"] and trainer.f_divergence_type == "reverse_kl"
    return plain and not (trainer.use_weighting or trainer.aux_loss_enabled)
