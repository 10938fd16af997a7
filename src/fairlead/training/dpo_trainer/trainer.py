"""`fairlead.DPOTrainer`: TRL's `DPOTrainer` with every prompt computed once and the reference computed once.

Losses, metrics, checkpoints and distribution are TRL's. What is replaced:

- the forward that returns per-token log-probabilities (`shared_prefix`);
- a step's batch is computed in microbatches that fit into memory and cache (`pair_microbatches`);
- the reference pass under `precompute_ref_log_probs=True` (`reference_pass`);
- what the reference is: the policy as it stands before the first step, which is checked (`self_test`).
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from accelerate.utils import parse_flag_from_env
from datasets import Dataset
from peft import PeftModel
from torch import Tensor, nn
from torch.utils.data import Sampler
from tqdm.auto import tqdm
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.trainer_callback import ExportableState

from fairlead.errors import ReferenceMismatchError
from fairlead.training.dpo_trainer.pair_microbatches import WHOLE_BATCH_LOSSES, split
from fairlead.training.dpo_trainer.prompt_sampler import PromptSampler
from fairlead.training.dpo_trainer.reference import ReferenceWeights
from fairlead.training.dpo_trainer.reference_pass import Progress, ReferencePass
from fairlead.training.dpo_trainer.self_test import check_policy_is_reference
from fairlead.training.dpo_trainer.truncation import report_dropped, why_unusable
from fairlead.training.microbatches import Microbatch
from fairlead.training.packed_policy import MicrobatchedTrainer, max_tokens, pack_policy
from fairlead.training.shared_prefix.forward import PackedForward, share_prefixes
from fairlead.training.trainer_arguments import by_name
from fairlead.training.trl_compat import OpenDPOTrainer, reference_adapter, without_weight_hash

CACHE_ENVIRONMENT = "FAIRLEAD_CACHE"


def default_cache() -> Path:
    """Where reference log-probabilities are kept if no file is named: `$FAIRLEAD_CACHE`, else the user's cache."""
    named = os.environ.get(CACHE_ENVIRONMENT)
    folder = Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "fairlead"
    return folder.expanduser() / "reference.sqlite"


class DPOTrainer(MicrobatchedTrainer, OpenDPOTrainer):
    """A drop-in for `trl.DPOTrainer`: same arguments, same `DPOConfig`, same logs.

    Args:
        args, kwargs: TRL's; `tokenizer` is taken for `processing_class`, with a warning.
        reference_cache: SQLite file for the reference's log-probabilities under `precompute_ref_log_probs=True`;
            `default_cache()` if not given.
        max_dropped: largest share of a data set's pairs that truncation may leave empty or equal before the trainer
            refuses to start. They are dropped with a warning that names them; if not given, any share is, as long as
            some pairs are left. Those of a stream (`IterableDataset`) are dropped uncounted, as TRL does.
        batch_by: "prompt" puts pairs of one prompt into one batch, so that their prompt and their common completions
            are computed once; "row" leaves the order to TRL.
        tokens_at_once: how many tokens of a step are computed at once; a larger batch is computed in microbatches,
            which add up to the same gradient. A prompt with its completions is never cut, and prompts that begin alike
            may make a microbatch larger (`microbatches.fill`). By the model's size and the device if not given. One
            process only.
        reference_progress: given the batches of a reference pass and what it is, yields them; a tqdm bar if not given.

    Attributes:
        packed: the policy's forward; `packed.reason` says why TRL's own is used instead, if it is.
        reference: content hash of the reference; None where its tensors are spread over processes.
        dropped: of each prepared data set, by name, the numbers of the dropped rows.

    Raises:
        TrainingError: if more than `max_dropped` of the pairs are dropped, or all.
        ReferenceMismatchError: from `train` and `evaluate`, if the reference is not what DPO started from.
    """

    def __init__(
        self,
        *args: Any,
        reference_cache: Path | None = None,
        max_dropped: float | None = None,
        batch_by: Literal["row", "prompt"] = "row",
        tokens_at_once: int | None = None,
        reference_progress: Progress | None = None,
        **kwargs: Any,
    ) -> None:
        self._cache_path = reference_cache or default_cache()
        self._reference_progress = reference_progress or (lambda batches, what: tqdm(batches, desc=what))
        self._max_dropped, self._batch_by, self._at_once = max_dropped, batch_by, tokens_at_once
        self.packed: PackedForward | None = None
        self.dropped: dict[str, list[int]] = {}
        self.reference: str | None = None
        self._weights: ReferenceWeights | None = None
        self._reference_pass: ReferencePass | None = None
        arguments = by_name("DPOTrainer", args, kwargs)
        self.reference_is_start = arguments.get("ref_model") is None
        needs_copy = self._needs_copy(arguments)
        if needs_copy:
            # TRL would load the reference from the model's folder again; a model changed in memory is another one.
            arguments["ref_model"] = copy.deepcopy(arguments["model"]).requires_grad_(False)
        with without_weight_hash(self):
            super().__init__(**arguments)
        self._set_up_forward()
        if needs_copy and self.precompute_ref_logps:
            self.ref_model = self._weights = None  # its log-probabilities are known, and it is not needed any more
        self.add_callback(_ReferenceGuard(self))

    @staticmethod
    def _needs_copy(arguments: dict[str, Any]) -> bool:
        """Whether the reference has to be a second set of weights in memory, if only for the reference pass."""
        model, config = arguments.get("model"), arguments.get("args")
        fsdp = getattr(config, "fsdp", None) or parse_flag_from_env("ACCELERATE_USE_FSDP")
        return (
            isinstance(model, PreTrainedModel)
            and arguments.get("ref_model") is None
            and arguments.get("peft_config") is None
            and bool(fsdp or not getattr(config, "precompute_ref_log_probs", False))
            and not is_deepspeed_zero3_enabled()
        )

    def _set_up_forward(self) -> None:
        """Replaces the forward and takes the reference's hash; once, as soon as TRL has set the models up."""
        if self.packed is not None:
            return
        outputs = ("log_probs", "entropy", "mean_logits", "is_top1")
        self.packed = pack_policy(self, (*outputs, *(("log_sum_sq_probs",) if self.use_weighting else ())))
        frozen: nn.Module = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=True)
        if self.ref_model is not None:
            frozen = self.accelerator.unwrap_model(self.ref_model, keep_fp32_wrapper=True)
            # The reference is prepared already, so its new forward has to enter autocast by itself.
            share_prefixes(frozen, ("log_probs",), context=self.accelerator.autocast)
        self._weights = ReferenceWeights(frozen, reference_adapter(frozen) if isinstance(frozen, PeftModel) else None)
        self.reference = self._weights.hash()
        if self.reference is not None:
            self._reference_pass = ReferencePass(
                self, self._weights, self.reference, self._cache_path, self._reference_progress
            )

    # The reference

    @property
    def reference_rows(self) -> dict[str, int]:
        """Rows of which the reference was computed, and those that were known already."""
        return {"computed": 0, "known": 0} if self._reference_pass is None else self._reference_pass.rows

    @property
    def _reference_stays(self) -> bool:
        """Whether the reference is in memory as it was: not the policy itself, not spread out, not moved on purpose."""
        policy = self.accelerator.unwrap_model(self.model)
        frozen = isinstance(policy, PeftModel) and self._weights is not None and not self._weights.trained
        return (self.ref_model is not None or frozen) and not (
            self.is_fsdp_enabled or self.is_deepspeed_enabled or self.args.sync_ref_model
        )

    def check_reference_content(self) -> None:
        """Compares the reference's content with what it was at the start.

        Raises:
            ReferenceMismatchError: naming both hashes.
        """
        if self._weights is None or self.reference is None:
            return
        if self._reference_stays or self.state.global_step == 0:
            refuse_other_reference(self.reference, self._weights.hash(), "the reference changed in memory")

    def check_policy_is_reference(self) -> None:
        """Demands that the policy is the reference: log-ratios 0, and DPO's loss ln 2.

        Raises:
            ReferenceMismatchError: naming the reference and the figures.
        """
        check_policy_is_reference(self, self.reference)

    def add_reference_log_probs(self, dataset: Any, name: str, batch_size: int) -> Any:
        """Computes only those log-probabilities that are not known, where a row has any of its own."""
        self._set_up_forward()
        assert self.packed is not None
        if (
            self._reference_pass is None
            or self.leaves_reference_to_trl
            or self.packed.length_dependent
            or not isinstance(dataset, Dataset)
        ):
            return super().add_reference_log_probs(dataset, name, batch_size)
        self.check_reference_content()
        return self._reference_pass.add_columns(dataset, name, 2 * batch_size)

    def restore_callbacks(self) -> None:
        """The guard, made anew like all callbacks from a checkpoint, has to know its trainer again."""
        super().restore_callbacks()
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, _ReferenceGuard):
                callback.trainer = self

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        self.check_reference_content()
        metrics: dict[str, float] = super().evaluate(*args, **kwargs)
        return metrics

    # The step

    def microbatches(self, inputs: dict[str, Any]) -> list[Microbatch]:
        assert self.packed is not None
        whole = WHOLE_BATCH_LOSSES & set(self.loss_types)
        return split(inputs, math.inf if whole else max_tokens(self, self.packed, self._at_once))

    @contextmanager
    def weighing(self, microbatch: Microbatch, num_items_in_batch: Tensor | int | None) -> Iterator[None]:
        """The sum of the losses is multiplied by the share of the pairs; a loss over tokens has another share."""
        weights = self.loss_weights
        factors = [microbatch.weight_of(loss) / microbatch.weight for loss in self.loss_types]
        self.loss_weights = [weight * factor for weight, factor in zip(weights, factors, strict=True)]
        try:
            with super().weighing(microbatch, num_items_in_batch):
                yield
        finally:
            self.loss_weights = weights

    # The rows

    def tokenize_pairs(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        """TRL's tokenised pairs, less those that truncation leaves nothing to learn from."""
        numbered = isinstance(dataset, Dataset)
        if numbered:
            dataset = dataset.add_column("_row", list(range(len(dataset))))
        pairs = super().tokenize_pairs(dataset, processing_class, args, dataset_name)
        pairs = pairs.filter(lambda row: why_unusable(row, args.max_length, args.truncation_mode) is None)
        if numbered:
            remaining = set(pairs["_row"])
            self.dropped[dataset_name] = dropped = [row for row in range(len(dataset)) if row not in remaining]
            pairs = pairs.remove_columns("_row")
            report_dropped(dropped, len(dataset), max_dropped=self._max_dropped, max_length=args.max_length)
        return pairs

    def train_sampler(self, train_dataset: Dataset | None = None) -> Sampler[int] | None:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if self._batch_by == "row" or not isinstance(dataset, Dataset):
            return super().train_sampler(train_dataset)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        # Processes take whole batches in turn, so a batch is what one process computes.
        return PromptSampler([tuple(ids) for ids in dataset["prompt_ids"]], self.args.train_batch_size, seed)


class _ReferenceGuard(TrainerCallback, ExportableState):
    """Checks the reference before the first step and at resume; its hash lies in every checkpoint's state."""

    def __init__(self, trainer: DPOTrainer | None = None) -> None:
        self.trainer = trainer

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": {"reference": self.trainer and self.trainer.reference}}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        del args, control, kwargs
        trainer = self.trainer
        assert trainer is not None
        trainer.check_reference_content()
        if state.global_step:
            stored: Any = state.stateful_callbacks.get(type(self).__name__) or {}
            expected = stored.get("attributes", {}).get("reference")
            refuse_other_reference(expected, trainer.reference, "the checkpoint was trained against another reference")
        elif trainer.reference_is_start and isinstance(trainer.train_dataset, Dataset):
            assert trainer.packed is not None
            if not trainer.packed.length_dependent:  # the figures of a row would be those of its batch
                trainer.check_policy_is_reference()


def refuse_other_reference(expected: str | None, actual: str | None, what: str) -> None:
    """Compares two content hashes; None is one that cannot be known.

    Raises:
        ReferenceMismatchError: naming both.
    """
    if expected is None or actual is None or expected == actual:
        return
    raise ReferenceMismatchError(
        f"{what}: {expected} was expected, {actual} is there",
        where="dpo",
        remedy="start again: fairlead run --force dpo",
    )
