"""What the drop-in trainers do alike: put the packed forward into TRL's policy, and compute a step in microbatches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import Trainer

from fairlead.training.microbatches import Microbatch, merge_metrics, tokens_at_once
from fairlead.training.shared_prefix.forward import PackedForward, share_prefixes


def pack_policy(trainer: Trainer, outputs: tuple[str, ...]) -> PackedForward:
    """Replaces the forward of a trainer's policy by the packed one wherever that is exact.

    Args:
        trainer: one of TRL's, after its constructor has set the model up.
        outputs: per-token figures that it reads (`trl_compat.log_prob_output`).
    """
    policy = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=True)
    base = policy.get_base_model() if isinstance(policy, PeftModel) else policy
    packed = share_prefixes(base, outputs)
    if isinstance(policy, PeftModel) and any(config.is_prompt_learning for config in policy.peft_config.values()):
        packed.give_up("its adapter puts tokens of its own before the prompt")
    if trainer.args.neftune_noise_alpha is not None:
        packed.give_up("NEFTune's noise depends on the length of the padded rows")
    return packed


def max_tokens(trainer: Trainer, packed: PackedForward, given: int | None) -> float:
    """How many tokens a step computes at once; without bound where only the whole batch has the loss.

    Args:
        given: what the user has asked for; by the model's size and the device if None.
    """
    needs_whole_batch = (
        packed.reason is not None
        or packed.length_dependent
        or trainer.aux_loss_enabled
        or trainer.accelerator.num_processes > 1
        or trainer.args.n_gpu > 1
        or trainer.is_fsdp_enabled
        or trainer.is_deepspeed_enabled
    )
    if needs_whole_batch:
        return math.inf
    if given is not None:
        return given
    config = trainer.accelerator.unwrap_model(trainer.model).config.get_text_config()
    return tokens_at_once(config, trainer.accelerator.device)


class MicrobatchedTrainer(Trainer):
    """A step in microbatches, whose weighted losses, gradients and metrics are those of the whole batch.

    Comes before one of TRL's trainers in a class's bases.
    """

    _loss_weight = 1.0  # of the microbatch that is being computed

    def microbatches(self, inputs: dict[str, Any]) -> list[Microbatch]:
        """The batch of a step, cut."""
        raise NotImplementedError

    def weighing(self, microbatch: Microbatch, num_items_in_batch: Tensor | int | None) -> AbstractContextManager[None]:
        """Within the block the loss counts as that of the microbatch in the whole batch."""
        del num_items_in_batch
        return self.with_loss_weight(microbatch.weight)

    @contextmanager
    def with_loss_weight(self, weight: float) -> Iterator[None]:
        """Multiplies the loss by a weight within the block."""
        self._loss_weight = weight
        try:
            yield
        finally:
            self._loss_weight = 1.0

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        step = super().training_step
        microbatches = self.microbatches(inputs)
        if len(microbatches) == 1:
            batch_loss: Tensor = step(model, inputs, num_items_in_batch)
            return batch_loss
        metrics = self.batch_metrics("train")
        before = {name: len(values) for name, values in metrics.items()}
        losses = []
        for microbatch in microbatches:
            with self.weighing(microbatch, num_items_in_batch):
                losses.append(step(model, microbatch.inputs, num_items_in_batch))
        merge_metrics(metrics, before, microbatches)
        return torch.stack(losses).sum()

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(*args, **kwargs)
        return loss if self._loss_weight == 1.0 else self._loss_weight * loss
