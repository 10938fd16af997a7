"""The `dpo` stage: TRL's DPOTrainer from the SFT model, with that same model as the frozen reference.

The reference is the model that DPO starts from. With an SFT adapter, TRL keeps a frozen copy of it beside the trained
one; with a new adapter the reference is the base with the adapter off; with full weights it is the model before the
first step. The reference's log-probabilities are computed once, before training, without dropout. A self-test then
demands that policy and reference are the same function: the loss is ln 2 and every log-ratio is 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedModel
from trl import DPOConfig, DPOTrainer

from fairlead.config import DpoSection, LoraSection, ModelSection
from fairlead.errors import ReferenceMismatchError, TrainingError
from fairlead.models.loading import load_adapter, load_base, load_tokenizer
from fairlead.models.views import View, start_of, views_of
from fairlead.preferences import rows
from fairlead.records import Preference, content_id
from fairlead.stages import Context, Figures
from fairlead.training import loop
from fairlead.training.sft import messages

_FIGURES = [
    ("eval_loss", "validation_loss"),
    ("eval_rewards/margins", "validation_reward_gap"),
    ("eval_rewards/accuracies", "validation_accuracy"),
]
_LOGGED = [("loss", "train_loss"), ("rewards/margins", "reward_gap"), ("rewards/accuracies", "accuracy")]


class _DPOTrainer(DPOTrainer):
    """TRL's trainer, with the reference computed without dropout and a self-test.

    TRL computes the reference in whatever mode the modules are in, and a fresh copy of an adapter is in training mode,
    so an adapter with dropout would get a noisy reference.

    Args:
        section: the config section it trains by; the other arguments are TRL's.
    """

    def __init__(self, section: DpoSection, **kwargs: Any) -> None:
        self.section = section  # read while TRL's constructor prepares the rows
        super().__init__(**kwargs)

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        """TRL's tokenised rows, less those that truncation leaves nothing to learn from."""
        given = len(dataset)
        prepared = super()._prepare_dataset(dataset, *args, **kwargs)
        kept = prepared.filter(lambda row: is_usable(row, self.section.max_length))
        refuse_if_dropped(given - len(kept), given, self.section)
        return kept

    def _precompute_ref_logps(self, *args: Any, **kwargs: Any) -> Dataset:
        training = self.model.training
        self.model.eval()
        try:
            return super()._precompute_ref_logps(*args, **kwargs)
        finally:
            self.model.train(training)

    def check_reference(self, reference: str, rows_wanted: int = 8) -> None:
        """Demands that the policy before the first step is the reference.

        Raises:
            ReferenceMismatchError: naming the reference and the largest log-ratio found.
        """
        count = min(rows_wanted, len(self.train_dataset))
        batch = self.data_collator([self.train_dataset[i] for i in range(count)])
        self.model.eval()
        self._metrics["eval"].clear()
        self.prediction_step(self.model, batch, prediction_loss_only=True)
        found = {key: abs(self._metrics["eval"][key][0]) for key in ("rewards/chosen", "rewards/rejected")}
        self._metrics["eval"].clear()
        worst = max(found.values()) / self.beta
        tolerance = 1e-3 if self.model.dtype == torch.float32 else 0.5  # summed over tokens, bfloat16 rounds
        if not worst <= tolerance:
            raise ReferenceMismatchError(
                f"before the first step the policy is not the reference {reference}: log-ratio {worst:.4g}, not 0",
                where="dpo",
                remedy="run SFT and DPO again: fairlead run --force sft",
            )


def run(context: Context) -> Figures:
    """Writes model/ (an adapter, or full weights) and metrics.jsonl."""
    section: DpoSection = context.section("dpo")
    model_section: ModelSection = context.section("model")
    train = rows.preferences(context.inputs["pairs"].file("train.jsonl"))
    validation = rows.preferences(context.inputs["pairs"].file("validation.jsonl"))
    start = start_of(views_of({k: v for k, v in context.inputs.items() if k == "sft"}))
    reference = context.inputs["sft"].hash if "sft" in context.inputs else content_id(model_section.name)
    trainer = build_trainer(context, section, model_section, start, train, validation)
    dropped = len(train) - len(trainer.train_dataset)
    trainer.check_reference(reference)
    loop.train(trainer, context, f"preferences, β {section.beta:g}")
    figures = loop.evaluation_figures(trainer, _FIGURES)
    tokenizer = load_tokenizer(model_section, context.folder)
    loop.save(trainer.accelerator.unwrap_model(trainer.model), tokenizer, model_section, context.out / "model")
    history = trainer.state.log_history
    logged = {ours: next((r[key] for r in reversed(history) if key in r), None) for key, ours in _LOGGED}
    return {
        "train": len(train) - dropped,
        "validation": len(validation),
        "dropped": dropped,
        "steps": trainer.state.global_step,
        "beta": section.beta,
        "reference": reference,
        **logged,
        **figures,
    }


def build_trainer(
    context: Context,
    section: DpoSection,
    model_section: ModelSection,
    start: View,
    train: list[Preference],
    validation: list[Preference],
) -> _DPOTrainer:
    """The trainer whose policy begins at `start` and whose reference is `start`."""
    lora: LoraSection = context.section("lora")
    model = load_base(model_section, context.folder, str(start.base) if start.base else None)
    policy: PreTrainedModel | PeftModel = model
    new_adapter = None
    if section.method == "lora" and start.adapter is not None:
        policy = load_adapter(model, start.adapter, trainable=True)
    elif section.method == "lora":
        new_adapter = loop.lora_config(lora, model, model_section.name)
    elif start.adapter is not None:
        policy = load_adapter(model, start.adapter).merge_and_unload()
        policy.requires_grad_(True)
    _set_dropout(policy, lora.dropout)
    losses: dict[str, Any] = {"loss_type": section.loss_type, "label_smoothing": section.label_smoothing}
    if section.loss_weights is not None:
        losses["loss_weights"] = section.loss_weights
    args = DPOConfig(
        **loop.arguments(section, context, validated=bool(validation)),
        **losses,
        beta=section.beta,
        precompute_ref_log_probs=True,
        disable_dropout=False,  # _set_dropout has left only the adapter's, which the config asks for
    )
    return _DPOTrainer(
        section,
        model=policy,
        args=args,
        train_dataset=dataset(train),
        eval_dataset=dataset(validation) if validation else None,
        processing_class=load_tokenizer(model_section, context.folder),
        peft_config=new_adapter,
    )


def _set_dropout(model: torch.nn.Module, adapter: float) -> None:
    """The base's own dropout off, as DPO's authors train; the adapter's as the config says."""
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = adapter if "lora_dropout" in name else 0.0


def is_usable(row: Mapping[str, Any], max_length: int) -> bool:
    """Whether a tokenised pair still has two different, non-empty answers once it is cut to `max_length`."""
    room = max(max_length - len(row["prompt_ids"]), 0)
    chosen, rejected = row["chosen_ids"][:room], row["rejected_ids"][:room]
    return bool(chosen) and bool(rejected) and chosen != rejected


def refuse_if_dropped(dropped: int, given: int, section: DpoSection) -> None:
    """Stops a training that would lose too many of its pairs.

    Raises:
        TrainingError: if more than `dpo.max_dropped` of the training pairs are lost, or all.
    """
    if dropped <= section.max_dropped * given and dropped < given:
        return
    raise TrainingError(
        f"{dropped} of {given} pairs are empty or equal once cut to {section.max_length} tokens, "
        f"dpo.max_dropped allows {section.max_dropped:.1%}",
        where="dpo.max_length",
        remedy="raise dpo.max_length, shorten the prompts, or raise dpo.max_dropped",
    )


def dataset(preferences: list[Preference]) -> Dataset:
    """TRL's conversational preference form."""
    return Dataset.from_list(
        [
            {
                "prompt": messages(p.prompt),
                "chosen": [{"role": "assistant", "content": p.chosen}],
                "rejected": [{"role": "assistant", "content": p.rejected}],
            }
            for p in preferences
        ]
    )
