"""What the drop-in trainers do alike: put the packed forward into TRL's policy, and bound what a step computes."""

from __future__ import annotations

import math

from peft import PeftModel
from transformers import Trainer

from fairlead.training.microbatches import tokens_at_once
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
