"""The loss is that of its paper, by worked algebra, and TRL's, by TRL's own figures."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import trl
from torch.nn.functional import logsigmoid

from fairlead.training.dpo_trainer.loss import dpo_loss, gradient_weight, margin
from tests.support.preference_rows import ROWS, trainer_of

EVERY_FORM: list[dict[str, Any]] = [{}, {"ε": 0.2}, {"ε": 0.2, "robust": True}]


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_a_worked_example() -> None:
    """Odds of 4 and ½ against the reference, with β 2: u = 2 log 8, σ(u) = 64 / 65."""
    u = margin(tensor(math.log(0.4)), tensor(math.log(0.1)), tensor(math.log(0.1)), tensor(math.log(0.2)), 2.0)
    assert u.item() == pytest.approx(2 * math.log(8))
    assert dpo_loss(u).item() == pytest.approx(math.log(65 / 64))
    assert gradient_weight(u).item() == pytest.approx(1 / 65)
    cdpo = 0.9 * math.log(65 / 64) + 0.1 * math.log(65)
    assert dpo_loss(u, 0.1).item() == pytest.approx(cdpo)
    robust = (0.9 * math.log(65 / 64) - 0.1 * math.log(65)) / 0.8
    assert dpo_loss(u, 0.1, robust=True).item() == pytest.approx(robust)


@pytest.mark.parametrize("form", EVERY_FORM, ids=str)
def test_where_policy_and_reference_are_equal_the_loss_is_ln_2(form: dict[str, Any]) -> None:
    chosen, rejected = tensor(-3.0, -40.0), tensor(-7.0, -2.0)
    u = margin(chosen, rejected, chosen, rejected, 0.3)
    assert u.tolist() == [0, 0]
    assert dpo_loss(u, **form).tolist() == pytest.approx([math.log(2)] * 2)
    assert gradient_weight(u).tolist() == [0.5, 0.5]


def test_swapping_chosen_and_rejected_flips_the_margin() -> None:
    π_w, π_l, ref_w, ref_l = tensor(-3.0, -40.0), tensor(-7.0, -2.0), tensor(-2.5, -41.0), tensor(-9.0, -2.0)
    u = margin(π_w, π_l, ref_w, ref_l, 0.3)
    torch.testing.assert_close(margin(π_l, π_w, ref_l, ref_w, 0.3), -u)
    torch.testing.assert_close(gradient_weight(-u), 1 - gradient_weight(u))


def test_the_margin_is_linear_in_beta_and_blind_to_what_both_answers_share() -> None:
    π_w, π_l, ref_w, ref_l = tensor(-3.0), tensor(-7.0), tensor(-2.5), tensor(-9.0)
    u = margin(π_w, π_l, ref_w, ref_l, 0.3)
    torch.testing.assert_close(margin(π_w, π_l, ref_w, ref_l, 0.6), 2 * u)
    torch.testing.assert_close(margin(π_w - 5, π_l - 5, ref_w, ref_l, 0.3), u)


def test_the_gradient_with_respect_to_the_margin_is_minus_its_weight() -> None:
    u = tensor(-30.0, -1.0, 0.0, 2.5, 30.0).requires_grad_()
    dpo_loss(u).sum().backward()
    assert u.grad is not None
    torch.testing.assert_close(u.grad, -gradient_weight(u.detach()))


def test_without_error_both_losses_are_dpos() -> None:
    u, none = tensor(-1.0, 0.0, 2.0), tensor(0.0, 0.0, 0.0)
    for robust in (False, True):
        torch.testing.assert_close(dpo_loss(u, none, robust=robust), -logsigmoid(u))


def test_cdpos_minimum_lies_where_the_labels_are_right_as_often_as_they_are() -> None:
    u = torch.linspace(-6, 6, 12_001)
    loss = dpo_loss(u, torch.full_like(u, 0.2))
    assert float(u[loss.argmin()]) == pytest.approx(math.log(0.8 / 0.2), abs=1e-3)


def test_the_robust_loss_has_the_clean_loss_as_its_expectation() -> None:
    """Chowdhury et al. 2024: flip the label with probability ε, and the mean is the loss of the clean label."""
    u, error = tensor(1.3), tensor(0.3)
    flipped = 0.7 * dpo_loss(u, error, robust=True) + 0.3 * dpo_loss(-u, error, robust=True)
    torch.testing.assert_close(flipped, -logsigmoid(u))


@pytest.mark.parametrize(
    ("settings", "form"),
    [
        pytest.param({"loss_type": ["sigmoid"]}, {}, id="sigmoid"),
        # TRL smooths labels as cDPO does in its loss of sorted pairs; of a single pair nothing is sorted.
        pytest.param({"loss_type": ["aot"], "label_smoothing": 0.2}, {"ε": 0.2}, id="cDPO"),
        pytest.param({"loss_type": ["robust"], "label_smoothing": 0.2}, {"ε": 0.2, "robust": True}, id="robust"),
    ],
)
def test_loss_and_margin_are_trls(
    tiny_model: Path, tmp_path: Path, settings: dict[str, Any], form: dict[str, Any]
) -> None:
    """Pair by pair, with a policy that has left its reference."""
    trainer = trainer_of(trl.DPOTrainer, tiny_model, tmp_path, beta=0.7, precompute_ref_log_probs=True, **settings)
    with torch.no_grad():
        trainer.model.lm_head.weight.mul_(1.3)
    for row in range(len(ROWS)):
        batch = trainer.data_collator([trainer.train_dataset[row]])
        trl_loss = trainer.compute_loss(trainer.model, batch).item()
        metrics = {name: torch.tensor([values[-1]]) for name, values in trainer._metrics["train"].items()}
        u = margin(
            metrics["logps/chosen"], metrics["logps/rejected"], batch["ref_chosen_logps"], batch["ref_rejected_logps"],
            0.7,
        )  # fmt: skip
        assert abs(u.item()) > 1e-3, "a margin of 0 would hide β and the labels' error"
        assert u.item() == pytest.approx(metrics["rewards/margins"].item(), rel=1e-4, abs=1e-5)
        assert dpo_loss(u, **form).item() == pytest.approx(trl_loss, rel=1e-4, abs=1e-5)
