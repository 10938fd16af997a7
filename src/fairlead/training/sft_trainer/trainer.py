"""`fairlead.SFTTrainer`: TRL's `SFTTrainer` without padding, and with what rows begin with together computed once.

Losses, metrics, checkpoints and distribution are TRL's. What is replaced:

- the forward that returns per-token log-probabilities (`shared_prefix`), with the head on scored tokens only;
- a step's batch is computed in microbatches that fit into memory and cache (`row_microbatches`).

Rows, their order and their batches are TRL's too, so losses and gradients are, but for rounding and dropout's draws.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor

from fairlead.training.microbatches import Microbatch
from fairlead.training.packed_policy import MicrobatchedTrainer, max_tokens, pack_policy
from fairlead.training.sft_trainer.row_microbatches import split
from fairlead.training.trainer_arguments import by_name
from fairlead.training.trl_compat import OpenSFTTrainer


class SFTTrainer(MicrobatchedTrainer, OpenSFTTrainer):
    """A drop-in for `trl.SFTTrainer`: same arguments, same `SFTConfig`, same logs.

    Where TRL packs rows itself (`packing`, `padding_free`), under Liger's kernels, and where rows are spread over
    processes (context, sequence and tensor parallelism), the forward is TRL's own.

    Args:
        args, kwargs: TRL's; `tokenizer` is taken for `processing_class`, with a warning.
        tokens_at_once: how many tokens of a step are computed at once; a larger batch is computed in microbatches,
            which add up to the same gradient. Rows that begin alike may make a microbatch larger (`microbatches.fill`).
            By the model's size and the device if not given. One process only.

    Attributes:
        packed: the model's forward; `packed.reason` says why TRL's own is used instead, if it is.
    """

    def __init__(self, *args: Any, tokens_at_once: int | None = None, **kwargs: Any) -> None:
        self._at_once = tokens_at_once
        super().__init__(**by_name("SFTTrainer", args, kwargs))
        self.packed = pack_policy(self, ("log_probs", "entropy", "is_top1"))
        for unsupported, reason in (
            (
                self.padding_free or self.args.packing or self.args.eval_packing,
                "TRL packs the rows (packing, padding_free)",
            ),
            (self.args.use_liger_kernel, "Liger's kernels replace parts of the model"),
            (self.accelerator.parallelism_config is not None, "rows are spread over processes (parallelism_config)"),
        ):
            if unsupported and self.packed.reason is None:
                self.packed.give_up(reason)

    def microbatches(self, inputs: dict[str, Any]) -> list[Microbatch]:
        # A loss function of the user's, or with label smoothing, gets the model's own outputs.
        whole = self.compute_loss_func is not None or self.label_smoother is not None
        return split(inputs, math.inf if whole else max_tokens(self, self.packed, self._at_once))

    def weighing(self, microbatch: Microbatch, num_items_in_batch: Tensor | int | None) -> AbstractContextManager[None]:
        """Divided by the tokens of the whole step, losses add up as they are."""
        return self.with_loss_weight(microbatch.weight if num_items_in_batch is None else 1.0)
