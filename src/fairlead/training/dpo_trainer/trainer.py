"""`fairlead.DPOTrainer`: TRL's `DPOTrainer` with every prompt computed once and the reference computed once for good.

Losses, metrics, checkpoints and distribution are TRL's. What is replaced:

- the model call that returns per-token log-probabilities (`packed_forward`);
- a step's batch is computed in parts that fit into memory and cache (`parts`);
- the reference pass under `precompute_ref_log_probs=True`: rows are kept as they are computed, by the content of the
  reference and of the row, so neither a kill nor another β, learning rate, seed or output folder repeats it;
- what the reference is: the policy as it stands before the first step, checked by its content and by its figures.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import trl
from accelerate.utils import gather_object, parse_flag_from_env
from datasets import Dataset
from peft import PeftModel
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Sampler
from tqdm.auto import tqdm
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.trainer_callback import ExportableState
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer import dpo_trainer as trls
from trl.trainer.utils import get_config_model_id, hash_module, use_adapter

from fairlead.errors import ReferenceMismatchError, TrainingError
from fairlead.models import hardware
from fairlead.training.dpo_trainer.microbatches import WHOLE_BATCH_LOSSES, merge, split, tokens_at_once
from fairlead.training.dpo_trainer.prompt_sampler import PromptSampler
from fairlead.training.dpo_trainer.reference import (
    CODE_VERSION,
    ReferenceCache,
    ReferenceWeights,
    pair_log_probs,
    row_key,
)
from fairlead.training.dpo_trainer.truncation import fault
from fairlead.training.shared_prefix.forward import PackedForward, share_prefixes

logger = logging.getLogger(__name__)

CACHE_ENVIRONMENT = "FAIRLEAD_CACHE"
_IGNORED = -100
_SELF_TEST_ROWS, _SELF_TEST_AMONG = 2, 64
_NAMED = 5  # dropped pairs that a message names

Row = tuple[tuple[int, ...], tuple[bool, ...]]  # tokens of prompt + completion, and which of them are scored


def default_cache() -> Path:
    """Where reference log-probabilities are kept if no file is named: `$FAIRLEAD_CACHE`, else the user's cache."""
    own = os.environ.get(CACHE_ENVIRONMENT)
    folder = Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "fairlead"
    return folder.expanduser() / "reference.sqlite"


class DPOTrainer(trl.DPOTrainer):
    """A drop-in for `trl.DPOTrainer`: same arguments, same `DPOConfig`, same logs.

    Args:
        args, kwargs: TRL's.
        reference_cache: SQLite file for the reference's log-probabilities under `precompute_ref_log_probs=True`;
            `default_cache()` if not given.
        max_dropped: share of pairs that truncation may leave empty or equal; they are dropped and named. Above it
            the trainer refuses to start. Those of a stream (`IterableDataset`) are dropped uncounted, as TRL does.
        batch_by: "prompt" puts pairs of one prompt into one batch, so that their prompt and their common completions
            are computed once; "row" leaves the order to TRL.
        tokens_at_once: how many tokens of a step are computed at once; a larger batch is computed in parts, which add
            up to the same gradient. A prompt with its completions is never cut, and prompts that begin alike may make
            a part larger (`parts.split`). By the model's size and the device if not given. One process only.
        reference_progress: given the batches of a reference pass and what it is, yields them; a tqdm bar if not given.

    Attributes:
        packed: what was decided about the policy's forward; `packed.reason` says why TRL's own is used, if it is.
        reference: content hash of the reference; None where its tensors are spread over processes.
        dropped: of each prepared data set, by name, the numbers of the dropped rows.
        reference_rows: rows of which the reference was computed, and those that were known already.

    Raises:
        TrainingError: if more than `max_dropped` of the pairs are lost.
        ReferenceMismatchError: from `train` and `evaluate`, if the reference is not what DPO started from.
    """

    loss_weights: list[float]
    ref_model: PreTrainedModel | None
    _precompute_model_hash: str | None

    def __init__(
        self,
        *args: Any,
        reference_cache: Path | None = None,
        max_dropped: float = 0.01,
        batch_by: Literal["row", "prompt"] = "row",
        tokens_at_once: int | None = None,
        reference_progress: Callable[[Sequence[Any], str], Iterable[Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        self._cache_path = reference_cache or default_cache()
        self._max_dropped, self._batch_by = max_dropped, batch_by
        self._tokens_at_once, self._share = tokens_at_once, 1.0
        self._reference_progress = reference_progress or (lambda batches, what: tqdm(batches, desc=what))
        self.packed: PackedForward | None = None
        self.dropped: dict[str, list[int]] = {}
        self.reference_rows = {"computed": 0, "known": 0}
        self.reference: str | None = None
        self._weights: ReferenceWeights | None = None
        given = _named(args, kwargs)
        if given.get("args") is None and hardware.device().type == "cpu":
            # TRL's own defaults refuse to run without an accelerator.
            given["args"] = trl.DPOConfig(f"{_name_of(given['model'])}-DPO", use_cpu=True, bf16=False)
        self._reference_is_start = given.get("ref_model") is None
        copied = self._needs_copy(given)
        if copied:
            # TRL would load the reference from the model's folder again; a model changed in memory is another one.
            given["ref_model"] = copy.deepcopy(given["model"]).requires_grad_(False)
        with self._hashed_once():
            super().__init__(**given)
        self._settle_reference()
        if copied and self.precompute_ref_logps:
            self.ref_model = self._weights = None  # it has said what it has to say
        self.add_callback(_ReferenceGuard(self))

    @staticmethod
    def _needs_copy(given: dict[str, Any]) -> bool:
        """Whether the reference has to be a second set of weights in memory, if only for the reference pass."""
        model, config = given.get("model"), given.get("args")
        fsdp = getattr(config, "fsdp", None) or parse_flag_from_env("ACCELERATE_USE_FSDP")
        return (
            isinstance(model, PreTrainedModel)
            and given.get("ref_model") is None
            and given.get("peft_config") is None
            and bool(fsdp or not getattr(config, "precompute_ref_log_probs", False))
            and not is_deepspeed_zero3_enabled()
        )

    @contextlib.contextmanager
    def _hashed_once(self) -> Iterator[None]:
        """Spares the set-up TRL's hash of all weights, on one core, where its cache of the reference is not used."""

        def hashed(module: nn.Module) -> str | None:
            return hash_module(module) if self._reference_is_trls else None

        trls.hash_module = hashed
        try:
            yield
        finally:
            trls.hash_module = hash_module

    @property
    def _reference_is_trls(self) -> bool:
        """Whether the reference pass is left to TRL: its weights are spread over processes, or it sees images."""
        return bool(self.is_fsdp_enabled or self.is_deepspeed_enabled or self._is_vision_dataset)

    # The forward

    def _settle_reference(self) -> None:
        """Replaces the forward and takes the reference's hash; once, as soon as TRL has set the models up."""
        if self.packed is not None:
            return
        policy = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=True)
        base = policy.get_base_model() if isinstance(policy, PeftModel) else policy
        outputs = ("log_probs", "entropy", "mean_logits", "is_top1")
        self.packed = share_prefixes(base, (*outputs, *(("log_sum_sq_probs",) if self.use_weighting else ())))
        if isinstance(policy, PeftModel) and any(each.is_prompt_learning for each in policy.peft_config.values()):
            self.packed.give_up("its adapter puts tokens of its own before the prompt")
        if self.args.neftune_noise_alpha is not None:
            self.packed.give_up("NEFTune's noise depends on the length of the padded rows")
        frozen: nn.Module = policy
        if self.ref_model is not None:
            frozen = self.accelerator.unwrap_model(self.ref_model, keep_fp32_wrapper=True)
            # The reference is prepared already, so its new forward has to enter autocast by itself.
            share_prefixes(frozen, ("log_probs",), context=self.accelerator.autocast)
        adapter = "ref" if isinstance(frozen, PeftModel) and "ref" in frozen.peft_config else None
        self._weights = ReferenceWeights(frozen, adapter)
        self.reference = self._weights.hash()

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

    def check_reference_figures(self) -> None:
        """Demands that the policy before the first step is the reference: log-ratios 0, and DPO's loss ln 2.

        Raises:
            ReferenceMismatchError: naming the reference and what was found.
        """
        first = [self.train_dataset[i] for i in range(min(_SELF_TEST_AMONG, len(self.train_dataset)))]
        rows = sorted(first, key=_tokens)[:_SELF_TEST_ROWS]  # the shortest cost least, and bfloat16 rounds them least
        training = self.model.training
        self.model.eval()
        self._metrics["eval"].clear()
        loss, _, _ = self.prediction_step(self.model_wrapped, self.data_collator(rows), prediction_loss_only=True)
        found = self._metrics["eval"]
        worst = max(abs(found[f"rewards/{side}"][0]) for side in ("chosen", "rejected")) / self.beta
        found.clear()
        self.model.train(training)
        exact = self.model.dtype == torch.float32 and self.accelerator.mixed_precision == "no"
        tolerance = 1e-3 if exact else 0.5  # sums over tokens, in which bfloat16 rounds
        plain = self.loss_types == ["sigmoid"] and self.f_divergence_type == "reverse_kl"
        plain = plain and not (self.use_weighting or self.aux_loss_enabled)
        expected = math.log(2) * self.loss_weights[0]
        # The loss moves by half of β times the log-ratios.
        off = plain and abs(float(loss) - expected) > max(1e-4, tolerance * self.beta) * self.loss_weights[0]
        if off or not worst <= tolerance:
            raise ReferenceMismatchError(
                f"before the first step the policy is not the reference {self.reference}: "
                f"log-ratio {worst:.4g} instead of 0, loss {float(loss):.4g} instead of {expected:.4g}",
                where="dpo",
                remedy="train from the model that the reference is; for a reference of your own pass ref_model",
            )

    # The step

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        parts = split(inputs, self._most_tokens())
        if len(parts) == 1:
            loss: Tensor = super().training_step(model, inputs, *args, **kwargs)
            return loss
        figures = self._metrics["train"]
        before = {name: len(values) for name, values in figures.items()}
        weights, losses = self.loss_weights, []
        try:
            for part in parts:
                self._share = part.weights[""]
                own = [part.weights.get(loss, self._share) / self._share for loss in self.loss_types]
                self.loss_weights = [weight * factor for weight, factor in zip(weights, own, strict=True)]
                losses.append(super().training_step(model, part.inputs, *args, **kwargs))
        finally:
            self._share, self.loss_weights = 1.0, weights
        merge(figures, before, parts)
        return torch.stack(losses).sum()

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        found = super().compute_loss(*args, **kwargs)
        return found if self._share == 1.0 else self._share * found

    def _most_tokens(self) -> float:
        """How many tokens a step computes at once; without bound where only the whole batch has the loss."""
        assert self.packed is not None
        whole = (
            self.packed.reason is not None
            or self.packed.length_dependent
            or self.aux_loss_enabled
            or WHOLE_BATCH_LOSSES & set(self.loss_types)
            or self.accelerator.num_processes > 1
            or self.args.n_gpu > 1
            or self.is_fsdp_enabled
            or self.is_deepspeed_enabled
        )
        if whole:
            return math.inf
        if self._tokens_at_once is None:
            config = self.accelerator.unwrap_model(self.model).config.get_text_config()
            self._tokens_at_once = tokens_at_once(config, self.accelerator.device)
        return self._tokens_at_once

    def _load_callback_state(self) -> None:
        """Callbacks restored from a checkpoint are made anew, and the guard has to know its trainer again."""
        super()._load_callback_state()
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, _ReferenceGuard):
                callback.trainer = self

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        self.check_reference_content()
        figures: dict[str, float] = super().evaluate(*args, **kwargs)
        return figures

    # The rows

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        """TRL's tokenised rows, less those that truncation leaves nothing to learn from."""
        numbered = isinstance(dataset, Dataset)
        if numbered:
            dataset = dataset.add_column("_row", list(range(len(dataset))))
        prepared = super()._prepare_dataset(dataset, processing_class, args, dataset_name)
        prepared = prepared.filter(lambda row: fault(row, args.max_length, args.truncation_mode) is None)
        if numbered:
            kept = set(prepared["_row"])
            self.dropped[dataset_name] = [row for row in range(len(dataset)) if row not in kept]
            prepared = prepared.remove_columns("_row")
            refuse_if_dropped(self.dropped[dataset_name], len(dataset), self._max_dropped, args.max_length)
        return prepared

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler[int] | None:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if self._batch_by == "row" or not isinstance(dataset, Dataset):
            sampler: Sampler[int] | None = super()._get_train_sampler(train_dataset)
            return sampler
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        # Processes take whole batches in turn, so a batch is what one process computes.
        return PromptSampler([tuple(ids) for ids in dataset["prompt_ids"]], self.args.train_batch_size, seed)

    # The reference pass

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        """Adds the reference's log-probabilities to a data set, computing only those that are not known."""
        self._settle_reference()
        assert self.packed is not None
        by_batch = self.packed.length_dependent  # a row has no log-probabilities of its own
        if self._reference_is_trls or by_batch or self.reference is None or not isinstance(dataset, Dataset):
            self._precompute_model_hash = self._precompute_model_hash or hash_module(self.ref_model or self.model)
            return super()._precompute_ref_logps(dataset, name, batch_size)
        self.check_reference_content()
        pairs = list(self._rows(dataset))
        cache = ReferenceCache(self._cache_path, f"{self.reference}/{CODE_VERSION}/{self._arithmetic()}")
        try:
            values = self._reference_values(pairs, cache, 2 * batch_size, name)
        finally:
            cache.close()
        sums = [pair_log_probs(values[row_key(*c)], values[row_key(*r)], self.ld_alpha) for c, r in pairs]
        columns = {"ref_chosen_logps": [c for c, _ in sums], "ref_rejected_logps": [r for _, r in sums]}
        dataset = dataset.remove_columns([column for column in columns if column in dataset.column_names])
        for column, numbers in columns.items():
            dataset = dataset.add_column(column, numbers)
        return dataset

    def _arithmetic(self) -> str:
        """What else decides the figures: the precision they are computed in."""
        return f"{self.accelerator.mixed_precision}"

    def _rows(self, dataset: Dataset) -> Iterator[tuple[Row, Row]]:
        """Each pair's chosen and rejected row as the collator cuts them."""
        for example in dataset:
            batch = self.data_collator([example])
            chosen, rejected = (
                (tuple(ids[mask].tolist()), tuple(scored[mask].tolist()))
                for ids, mask, scored in zip(
                    batch["input_ids"], batch["attention_mask"].bool(), batch["completion_mask"].bool(), strict=True
                )
            )
            yield chosen, rejected

    def _reference_values(
        self, pairs: Sequence[tuple[Row, Row]], cache: ReferenceCache, batch_size: int, name: str
    ) -> dict[str, Tensor]:
        """[scored tokens] log-probabilities of every row, by key."""
        rows = {row_key(*row): row for pair in pairs for row in pair}
        values = cache.get(rows)
        # A process that reads late may know rows that another has just written; all must share out the same work.
        known = set.intersection(*map(set, gather_object([list(values)])))
        missing = [key for key in rows if key not in known]
        self.reference_rows["known"] += len(known)
        self.reference_rows["computed"] += len(missing)
        share = -(-len(missing) // self.accelerator.num_processes)
        first = share * self.accelerator.process_index
        own = missing[first : first + share]
        batches = [own[start : start + batch_size] for start in range(0, len(own), batch_size)]
        assert self._weights is not None
        adapter = self._weights.adapter  # asked for once, since it looks at the weights
        for keys in self._reference_progress(batches, f"reference of the {name} pairs") if batches else []:
            found = dict(zip(keys, self._reference_log_probs([rows[key] for key in keys], adapter), strict=True))
            cache.put(found)
            values.update(found)
        if self.accelerator.num_processes > 1:
            for shared in gather_object([{key: values[key] for key in own}]):
                values.update(shared)
        return values

    def _reference_log_probs(self, rows: Sequence[Row], adapter: str | None) -> list[Tensor]:
        """One forward of the reference, without dropout; with an adapter of the policy or its bare base."""
        device = self.accelerator.device
        pad = self._tokenizer.pad_token_id
        ids = pad_sequence([torch.tensor(tokens) for tokens, _ in rows], batch_first=True, padding_value=pad)
        mask = pad_sequence([torch.ones(len(tokens), dtype=torch.long) for tokens, _ in rows], batch_first=True)
        scored = pad_sequence([torch.tensor(each) for _, each in rows], batch_first=True)
        labels = ids.masked_fill(~scored, _IGNORED)
        model = self.ref_model if self.ref_model is not None else self.model
        unwrapped = self.accelerator.unwrap_model(model, keep_fp32_wrapper=True)
        reference: Any = contextlib.nullcontext()
        if self.ref_model is None and isinstance(unwrapped, PeftModel):
            reference = use_adapter(unwrapped, adapter_name=adapter)
        training = model.training
        model.eval()
        try:
            with (
                torch.no_grad(),
                disable_gradient_checkpointing(self.model, self.args.gradient_checkpointing_kwargs),
                reference,
                self.accelerator.autocast(),
            ):
                log_probs = model(
                    input_ids=ids.to(device),
                    attention_mask=mask.to(device),
                    labels=labels.to(device),
                    use_cache=False,
                    fused_lm_head=True,
                ).log_probs
        finally:
            model.train(training)
        # Prompt-learning adapters put virtual tokens before the row.
        log_probs = log_probs[:, 1 - ids.shape[1] :].float().cpu()
        return [row[wanted] for row, wanted in zip(log_probs, labels[:, 1:] != _IGNORED, strict=True)]


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
        elif trainer._reference_is_start and isinstance(trainer.train_dataset, Dataset):
            assert trainer.packed is not None
            if not trainer.packed.length_dependent:  # the figures of a row would be those of its batch
                trainer.check_reference_figures()


def _tokens(row: dict[str, Any]) -> int:
    return sum(len(row.get(column, ())) for column in ("prompt_ids", "chosen_ids", "rejected_ids"))


def refuse_other_reference(expected: str | None, found: str | None, what: str) -> None:
    """Compares two content hashes; None is one that cannot be known.

    Raises:
        ReferenceMismatchError: naming both.
    """
    if expected is None or found is None or expected == found:
        return
    raise ReferenceMismatchError(
        f"{what}: {expected} was expected, {found} is there",
        where="dpo",
        remedy="start again from the SFT model: fairlead run --force dpo",
    )


def refuse_if_dropped(dropped: Sequence[int], given: int, max_dropped: float, max_length: int | None) -> None:
    """Says which pairs truncation has emptied, and stops a training that would lose too many of them.

    Raises:
        TrainingError: if more than the share `max_dropped` is lost, or all.
    """
    if not dropped:
        return
    shown = ", ".join(str(row) for row in dropped[:_NAMED]) + (" …" if len(dropped) > _NAMED else "")
    cut = f" once cut to {max_length} tokens" if max_length is not None else ""
    what = f"{len(dropped)} of {given} pairs are empty or equal{cut} (rows {shown})"
    if len(dropped) <= max_dropped * given and len(dropped) < given:
        logger.warning("%s: dropped", what)
        return
    raise TrainingError(
        f"{what}, max_dropped allows {max_dropped:.1%}",
        where="dpo.max_length",
        remedy="raise dpo.max_length, shorten the prompts, or raise dpo.max_dropped",
    )


def _named(args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """TRL's arguments by name."""
    bound = inspect.signature(trl.DPOTrainer.__init__).bind(None, *args, **kwargs).arguments
    return {name: given for name, given in bound.items() if name != "self"}


def _name_of(model: str | PreTrainedModel) -> str:
    name = model if isinstance(model, str) else get_config_model_id(model.config)
    return name.split("/")[-1]
