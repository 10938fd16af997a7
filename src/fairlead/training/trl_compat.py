"""Every undocumented name of TRL, transformers and PEFT that the training relies on, and what is relied on.

Any release may change such a name without notice. So they stand in this file alone, TRL is pinned to one minor version
(`SUPPORTED_TRL` here, the same in pyproject.toml), and tests/training/test_trl_compat.py has a test for each name: with
a new TRL that file fails, in a sentence that says what changed.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
import trl
from datasets import Dataset
from peft import PeftModel
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Sampler
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from fairlead.errors import TrainingError

SUPPORTED_TRL = "1.16"

IGNORED = -100
"""A label that is not scored, for transformers and TRL alike."""


def require_supported_trl(installed: str) -> None:
    """Demands the minor version of TRL that the names in this file were read in.

    Raises:
        TrainingError: naming both versions.
    """
    if installed.split(".")[:2] != SUPPORTED_TRL.split("."):
        raise TrainingError(
            f"TRL {installed} is installed, and this version of Fairlead works with TRL {SUPPORTED_TRL} only",
            where="fairlead.DPOTrainer, fairlead.SFTTrainer",
            remedy=f"pip install 'trl=={SUPPORTED_TRL}.*'",
        )


require_supported_trl(trl.__version__)

# After the check, so that another TRL gives the line above and not an ImportError.
from trl.models import utils as trl_models_utils  # noqa: E402
from trl.trainer import dpo_trainer as trl_dpo_trainer  # noqa: E402
from trl.trainer import utils as trl_utils  # noqa: E402

# The head that returns log-probabilities


def add_log_prob_head(model: PreTrainedModel, outputs: tuple[str, ...] = ("log_probs",)) -> None:
    """Replaces `model.forward` by one that, asked with `fused_lm_head=True`, returns per-token log-probabilities.

    TRL's `add_fused_lm_head`. TRL's trainers do this to their models themselves; relied on is that the new forward is
    an attribute of the instance, takes `labels` and `fused_lm_head`, and returns a `log_prob_output`.

    Args:
        outputs: which per-token fields to compute.
    """
    trl_utils.add_fused_lm_head(model, outputs=outputs)


def log_prob_output(**fields: Any) -> Any:
    """What that forward returns, TRL's `FusedCausalLMOutput`.

    Relied on are the fields `loss`, `log_probs`, `entropy`, `log_sum_sq_probs`, `mean_logits`, `is_top1`, `aux_loss`
    and `label_mask`; the per-token ones are [B, T - 1], 0 where the label is `IGNORED`.
    """
    return trl_utils.FusedCausalLMOutput(**fields)


def gathered_head(weight: Tensor, bias: Tensor | None) -> AbstractContextManager[Any]:
    """Holds a language-model head whole for as long as it is read, where DeepSpeed ZeRO-3 has spread it out.

    TRL's `maybe_gather_lm_head_ctx`. Relied on is that it does nothing without ZeRO-3, and takes None for no bias.
    """
    context: AbstractContextManager[Any] = trl_utils.maybe_gather_lm_head_ctx(weight, bias)
    return context


def scored_log_probs(
    model: nn.Module, rows: Sequence[tuple[Sequence[int], Sequence[bool]]], *, pad_id: int, device: torch.device
) -> list[Tensor]:
    """[scored tokens] log-probabilities of each row, in float32 on the CPU.

    Args:
        model: one with TRL's log-probability head.
        rows: tokens of prompt and answer, and which of them are scored.
    """
    ids = pad_sequence([torch.tensor(tokens) for tokens, _ in rows], batch_first=True, padding_value=pad_id)
    mask = pad_sequence([torch.ones(len(tokens), dtype=torch.long) for tokens, _ in rows], batch_first=True)
    scored = pad_sequence([torch.tensor(flags, dtype=torch.bool) for _, flags in rows], batch_first=True)
    labels = ids.masked_fill(~scored, IGNORED)
    log_probs = model(
        input_ids=ids.to(device),
        attention_mask=mask.to(device),
        labels=labels.to(device),
        use_cache=False,
        fused_lm_head=True,
    ).log_probs
    # Prompt-learning adapters put virtual tokens before the row.
    log_probs = log_probs[:, 1 - ids.shape[1] :].float().cpu()
    return [row[row_mask] for row, row_mask in zip(log_probs, scored[:, 1:], strict=True)]


# The reference


def reference_adapter(policy: PeftModel) -> str | None:
    """The adapter that the reference computes with; None for none, the base alone.

    TRL keeps a frozen copy, named "ref", of an adapter that the policy comes with; beside a new adapter there is none.
    """
    return "ref" if "ref" in policy.peft_config else None


def adapter_in_use(model: PeftModel, name: str | None) -> AbstractContextManager[Any]:
    """Computes with one adapter, or with none, and puts back what was active before. TRL's `use_adapter`."""
    context: AbstractContextManager[Any] = trl_utils.use_adapter(model, adapter_name=name)
    return context


def without_checkpointing(model: nn.Module, kwargs: dict[str, Any] | None) -> AbstractContextManager[Any]:
    """Switches gradient checkpointing off and afterwards on again. TRL's `disable_gradient_checkpointing`.

    Args:
        kwargs: the training arguments' `gradient_checkpointing_kwargs`.
    """
    context: AbstractContextManager[Any] = trl_models_utils.disable_gradient_checkpointing(model, kwargs)
    return context


@contextlib.contextmanager
def without_weight_hash(trainer: OpenDPOTrainer) -> Iterator[None]:
    """Spares TRL's constructor the hash of all weights, which takes one core minutes, unless its cache is used.

    Relied on is that `trl.trainer.dpo_trainer` calls its global `hash_module`, and keeps the result for nothing but its
    cache of the reference's log-probabilities.
    """
    original = trl_dpo_trainer.hash_module
    trl_dpo_trainer.hash_module = lambda module: original(module) if trainer.leaves_reference_to_trl else None
    try:
        yield
    finally:
        trl_dpo_trainer.hash_module = original


def model_id(config: PreTrainedConfig) -> str:
    """The folder or hub id that a model was loaded from, or "". TRL's `get_config_model_id`."""
    name: str = trl_utils.get_config_model_id(config)
    return name


# The attention implementation, which transformers keeps in a private attribute of the config


def attention_implementation(config: PreTrainedConfig) -> str:
    """The name under which a model's attention is registered, such as `sdpa`."""
    name: str = config._attn_implementation
    return name


def set_attention_implementation(config: PreTrainedConfig, name: str) -> None:
    """Lets a model's layers call another registered attention from now on, without any check."""
    config._attn_implementation = name


def calls_registered_attention(model: PreTrainedModel) -> bool:
    """Whether a model calls its attention through transformers' registry of attention functions."""
    return bool(model._supports_attention_backend)


# What else transformers does not document


def eager_attention(module: nn.Module) -> Callable[..., Any] | None:
    """The function `eager_attention_forward` that stands beside an attention module's class; None without one."""
    for cls in type(module).__mro__:
        function: Callable[..., Any] | None = getattr(sys.modules[cls.__module__], "eager_attention_forward", None)
        if function is not None:
            return function
    return None


def load_balancing_loss(router_logits: tuple[Tensor, ...], config: PreTrainedConfig, weights: Tensor) -> Tensor:
    """The loss of a mixture of experts that spreads the tokens over its experts, the same for all such models.

    Args:
        router_logits: [tokens, experts] of each layer.
        weights: [1, tokens], how often each token counts, in the place of an attention mask.
    """
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    loss: Tensor = load_balancing_loss_func(router_logits, config.num_experts, config.num_experts_per_tok, weights)
    return loss


# PEFT's names of tensors


def without_peft_names(name: str, adapters: set[str]) -> tuple[str, str | None]:
    """A tensor's name as it would be without PEFT's wrapping, and the adapter that it belongs to.

    Relied on are the prefix `base_model.model.`, the wrappers `base_layer` and `original_module`, and that an adapter's
    tensors carry its name as one part of theirs.
    """
    parts = name.removeprefix("base_model.model.").split(".") if adapters else name.split(".")
    owner = next((part for part in parts if part in adapters), None)
    return ".".join(part for part in parts if part not in ("base_layer", "original_module", owner)), owner


def lora_matrix(name: str) -> Literal["A", "B"] | None:
    """Which of LoRA's two matrices a tensor is: the update is B · A, and B begins as 0."""
    return "A" if ".lora_A." in name else "B" if ".lora_B." in name else None


# The trainers


class _BatchFigures:
    """The figures that TRL's trainers collect between two logs."""

    _metrics: dict[str, dict[str, list[float]]]

    def batch_metrics(self, mode: Literal["train", "eval"]) -> dict[str, list[float]]:
        """Figures of the batches since the last log, by name; TRL logs their means and clears them."""
        metrics: dict[str, list[float]] = self._metrics[mode]
        return metrics


class OpenSFTTrainer(_BatchFigures, trl.SFTTrainer):
    """TRL's SFT trainer with its private attributes under public names; by itself it changes nothing.

    Relied on is that `compute_loss` calls the model with the log-probability head once, reads of its output
    `log_probs`, `entropy`, `is_top1`, `label_mask` and `aux_loss`, and divides the sum of the scored tokens' losses by
    `num_items_in_batch`, or by their number where that is None; and the undocumented attributes `aux_loss_enabled`,
    `compute_loss_func`, `label_smoother` and `padding_free`.
    """

    aux_loss_enabled: bool
    padding_free: bool


class OpenDPOTrainer(_BatchFigures, trl.DPOTrainer):
    """TRL's DPO trainer with its private hooks and attributes under public names; by itself it changes nothing.

    Relied on as well are its undocumented attributes `beta`, `loss_types`, `loss_weights`, `f_divergence_type`,
    `ld_alpha`, `use_weighting`, `aux_loss_enabled`, `precompute_ref_logps` and `ref_model`.
    """

    beta: float
    loss_types: list[str]
    loss_weights: list[float]
    ld_alpha: float | None
    ref_model: PreTrainedModel | None
    _precompute_model_hash: str | None
    _signature_columns: list[str] | None

    # Hooks: TRL calls the private name, a subclass overrides the public one.

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        return self.tokenize_pairs(dataset, processing_class, args, dataset_name)

    def tokenize_pairs(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        """Adds the columns `prompt_ids`, `chosen_ids` and `rejected_ids`, and keeps the others.

        TRL drops pairs whose prompt alone fills `max_length`. Called in the constructor and by `evaluate`.
        """
        return super()._prepare_dataset(dataset, processing_class, args, dataset_name)

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        return self.add_reference_log_probs(dataset, name, batch_size)

    def add_reference_log_probs(self, dataset: Any, name: str, batch_size: int) -> Any:
        """Adds the columns `ref_chosen_logps` and `ref_rejected_logps` under `precompute_ref_log_probs=True`.

        Called in the constructor, after the models are in place, and by `evaluate`. TRL's own pass needs the weights'
        hash, which `without_weight_hash` may have spared.
        """
        if self._precompute_model_hash is None:
            self._precompute_model_hash = trl_utils.hash_module(self.ref_model or self.model)
        return super()._precompute_ref_logps(dataset, name, batch_size)

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        return self.batch_loss(model, inputs, return_outputs)

    def batch_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        """The loss of a batch, with the outputs if asked; appends its figures to `batch_metrics`.

        Calls `model` once with the log-probability head, and the reference unless the batch has `ref_chosen_logps` and
        `ref_rejected_logps`. `inputs` are [2B, T], chosen rows first: `input_ids`, `attention_mask`, `completion_mask`.
        """
        return super()._compute_loss(model, inputs, return_outputs)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        self._signature_columns = self.columns_in_batches(self._signature_columns or [])

    def columns_in_batches(self, columns: list[str]) -> list[str]:
        """The data set's columns that reach the collator; the others are removed before."""
        return columns

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler[int] | None:
        return self.train_sampler(train_dataset)

    def train_sampler(self, train_dataset: Dataset | None = None) -> Sampler[int] | None:
        """The order of the training rows; a method of transformers' trainer."""
        sampler: Sampler[int] | None = super()._get_train_sampler(train_dataset)
        return sampler

    def _load_callback_state(self) -> None:
        self.restore_callbacks()

    def restore_callbacks(self) -> None:
        """Makes exportable callbacks anew from a checkpoint, with no argument but those they have saved.

        A method of transformers' trainer, called at resume under `restore_callback_states_from_checkpoint`.
        """
        super()._load_callback_state()

    # Attributes

    @property
    def leaves_reference_to_trl(self) -> bool:
        """Whether the reference pass is TRL's own: the weights are spread over processes, or the rows have images."""
        return bool(self.is_fsdp_enabled or self.is_deepspeed_enabled or self._is_vision_dataset)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, also where the processing class is a processor around it; it has a pad token."""
        tokenizer: PreTrainedTokenizerBase = self._tokenizer
        return tokenizer

    @property
    def trained_tokens(self) -> int:
        """Tokens of all batches that were trained on; TRL logs it as `num_tokens`, and counts from 0 after a resume."""
        return int(self._total_train_tokens)

    @trained_tokens.setter
    def trained_tokens(self, count: int) -> None:
        self._total_train_tokens = count
