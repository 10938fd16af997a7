"""The error and the weight of a pair reach the loss of a training."""

from __future__ import annotations

from pathlib import Path

import torch

from fairlead.training import hf_trainer
from fairlead.training.dpo_trainer.label_noise import ERROR, WEIGHT, with_noise
from tests.support.monitored import monitored_trainer


def test_pairs_that_weigh_nothing_teach_nothing(tiny_project: Path) -> None:
    """Weights reach the loss: all weight on pairs with a coin flip's label moves the policy hardly at all."""

    def gap(error: float, weight: float) -> float:
        trainer, context = monitored_trainer(tiny_project, learning_rate=5e-3)
        rows = trainer.train_dataset
        trainer.train_dataset = with_noise(rows, [error] * len(rows), [weight] * len(rows))
        assert {ERROR, WEIGHT} <= set(trainer.data_collator([trainer.train_dataset[0]]))
        hf_trainer.train(trainer, context, "test")
        return abs(trainer.evaluate()["eval_rewards/margins"])

    assert gap(0.0, 0.0) < 1e-6
    assert gap(0.0, 1.0) > 1e-3


def test_without_error_the_weighted_loss_is_trls(tiny_project: Path) -> None:
    trainer, _ = monitored_trainer(tiny_project)
    batch = trainer._prepare_inputs(trainer.data_collator([trainer.train_dataset[i] for i in range(4)]))
    trainer.model.train()
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    with torch.no_grad():
        for name, p in trainer.model.named_parameters():
            if "lora_B.default" in name:
                p.normal_(std=0.02)
    plain = trainer._compute_loss(trainer.model, batch, False)
    ours = trainer._compute_loss(trainer.model, {**batch, ERROR: torch.zeros(4), WEIGHT: torch.ones(4)}, False)
    torch.testing.assert_close(ours, plain)
