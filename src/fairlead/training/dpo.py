"""The `dpo` stage: `fairlead.DPOTrainer` from the SFT model, with that same model as the frozen reference.

The reference is the model that DPO starts from. With an SFT adapter, a frozen copy of it lies beside the trained one;
with a new adapter the reference is the base with the adapter off; with full weights it is the model before the first
step. Its log-probabilities are computed once, without dropout, and kept in the project folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import DPOConfig

from fairlead.config.model import ModelSection
from fairlead.config.stage_settings import DpoSettings
from fairlead.config.training import DpoSection
from fairlead.documents.training import DpoFigures, DpoResult, LabelNoiseFigures, MonitoringOutcome
from fairlead.models.adapters import ModelVariant, dpo_start, variants_of
from fairlead.models.chat import assistant_turn, conversation
from fairlead.models.loading import load_adapter, load_base, load_tokenizer
from fairlead.pipeline import outputs as files
from fairlead.pipeline.stage import Context, Metrics
from fairlead.records import Interval, Preference
from fairlead.training import hf_trainer
from fairlead.training.dpo_trainer.label_error import judge_label_error
from fairlead.training.dpo_trainer.label_noise import apply_label_noise
from fairlead.training.dpo_trainer.label_noise_trainer import MonitoredDPOTrainer
from fairlead.training.monitoring.dashboard import TrainingDashboard
from fairlead.training.monitoring.monitor import TrainingMonitor
from fairlead.training.monitoring.retention_set import read_retention_set

REFERENCE_CACHE = ".fairlead/reference.sqlite"

_VALIDATION = [
    ("eval_loss", "validation_loss"),
    ("eval_rewards/margins", "validation_reward_gap"),
    ("eval_rewards/margins_low", "validation_reward_gap_low"),
    ("eval_rewards/margins_high", "validation_reward_gap_high"),
    ("eval_rewards/accuracies", "validation_accuracy"),
]


def run(context: Context[DpoSettings]) -> Metrics:
    """Writes model/ (an adapter, or full weights), metrics.jsonl, diagnosis.json and training.json."""
    section = context.settings.dpo
    model_section = context.settings.model
    train = context.read(files.TRAIN_PAIRS)
    validation = context.read(files.VALIDATION_PAIRS)
    start = dpo_start(variants_of(files.trained_models(context.inputs)))
    trainer = build_trainer(context, section, model_section, start, train, validation)
    dropped = len(trainer.dropped["train"])
    noise = _apply_label_noise(context, trainer, train) if section.label_noise == "measured" else None
    tokenizer = load_tokenizer(model_section, context.folder)
    outcome = _train_monitored(context, trainer, tokenizer)
    last_step = trainer.state.global_step if outcome.kept_step is None else outcome.kept_step
    metrics = hf_trainer.validation_metrics(trainer, _VALIDATION, trainer.passes.get(last_step))
    result = _result(trainer, metrics, outcome)
    result.write(context.out / files.DPO_RESULT.name)
    hf_trainer.save(trainer.accelerator.unwrap_model(trainer.model), tokenizer, model_section, context.out / "model")
    figures = DpoFigures(
        train=result.pairs,
        validation=len(validation),
        dropped=dropped,
        steps=result.steps,
        beta=section.beta,
        reference=trainer.reference,
        train_loss=hf_trainer.last_logged(trainer, "loss"),
        reward_gap=hf_trainer.last_logged(trainer, "rewards/margins"),
        accuracy=hf_trainer.last_logged(trainer, "rewards/accuracies"),
        **metrics,
        **outcome.model_dump(),
    )
    return figures.model_dump(mode="json") | ({} if noise is None else noise.model_dump(mode="json"))


def _result(trainer: MonitoredDPOTrainer, metrics: Mapping[str, float | None], outcome: MonitoringOutcome) -> DpoResult:
    """What the training ended with.

    Args:
        metrics: of a pass over all validation pairs with the weights that were kept.
    """
    gap, low, high = (metrics[f"validation_reward_gap{end}"] for end in ("", "_low", "_high"))
    n = 0 if trainer.eval_dataset is None else len(trainer.eval_dataset)
    return DpoResult(
        pairs=len(trainer.train_dataset),
        steps=trainer.state.global_step,
        validation_loss=metrics["validation_loss"],
        validation_reward_gap=Interval(gap, low, high, n, "t interval over pairs, prompts as clusters"),
        validation_accuracy=metrics["validation_accuracy"],
        outcome=outcome,
    )


def _train_monitored(
    context: Context[DpoSettings], trainer: MonitoredDPOTrainer, tokenizer: PreTrainedTokenizerBase
) -> MonitoringOutcome:
    """Trains as the `watch` section says; afterwards the trainer holds the weights that are kept."""
    section, settings = context.settings.dpo, context.settings.watch
    rows = context.path(settings.general) if settings.general else None
    monitor = TrainingMonitor(
        trainer,
        settings,
        context.out / hf_trainer.CHECKPOINTS,
        retention=read_retention_set(rows, tokenizer, section.max_length) if rows else (),
        dashboard=TrainingDashboard(context.progress),
    )
    hf_trainer.train(trainer, context, f"preferences, β {section.beta:g}", monitor)
    return monitor.finish(context.out)


def _apply_label_noise(
    context: Context[DpoSettings], trainer: MonitoredDPOTrainer, train: Sequence[Preference]
) -> LabelNoiseFigures:
    """Gives the loss the judge's label error: from checked rows, its qualification, or its two orders' disagreement."""
    section = context.settings.dpo
    checks = context.path(section.label_checks) if section.label_checks else None
    judge = context.read(files.QUALIFICATION).pairs if context.inputs.has(files.QUALIFICATION) else None
    counts = context.read(files.PAIR_COUNTS).counts
    measured = judge_label_error(checks, counts, judge.checked if judge else None)
    return apply_label_noise(trainer, measured, [pair.margin for pair in train])


def build_trainer(
    context: Context[DpoSettings],
    section: DpoSection,
    model_section: ModelSection,
    start: ModelVariant,
    train: list[Preference],
    validation: list[Preference],
) -> MonitoredDPOTrainer:
    """The trainer whose policy begins at `start` and whose reference is `start`."""
    lora = context.settings.lora
    model = load_base(model_section, context.folder, str(start.base) if start.base else None)
    policy: PreTrainedModel | PeftModel = model
    new_adapter = None
    if section.method == "lora" and start.adapter is not None:
        policy = load_adapter(model, start.adapter, trainable=True)
    elif section.method == "lora":
        new_adapter = hf_trainer.lora_config(lora, model, model_section.name)
    elif start.adapter is not None:
        policy = load_adapter(model, start.adapter).merge_and_unload()
        policy.requires_grad_(True)
    _set_dropout(policy, lora.dropout)
    losses: dict[str, Any] = {"loss_type": section.loss_type, "label_smoothing": section.label_smoothing}
    if section.loss_weights is not None:
        losses["loss_weights"] = section.loss_weights
    args = DPOConfig(
        **hf_trainer.arguments(section, context, validated=bool(validation)),
        **losses,
        beta=section.beta,
        precompute_ref_log_probs=True,
        disable_dropout=False,  # _set_dropout has left only the adapter's, which the config asks for
    )
    return MonitoredDPOTrainer(
        model=policy,
        reference_cache=context.folder / REFERENCE_CACHE,
        max_dropped=section.max_dropped,
        batch_by=section.batch_by,
        reference_progress=lambda batches, what: _with_bar(context, batches, what),
        args=args,
        train_dataset=dataset(train),
        eval_dataset=dataset(validation) if validation else None,
        processing_class=load_tokenizer(model_section, context.folder),
        peft_config=new_adapter,
    )


def _with_bar(context: Context[DpoSettings], items: Sequence[Any], what: str) -> Iterator[Any]:
    with context.progress.task("dpo", what, len(items)) as bar:
        for done, item in enumerate(items):
            yield item
            bar.update(done + 1)


def _set_dropout(model: torch.nn.Module, adapter: float) -> None:
    """Switches the base's own dropout off, as DPO's authors do, and sets the adapter's to that of the config."""
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = adapter if "lora_dropout" in name else 0.0


def dataset(preferences: list[Preference]) -> Dataset:
    """TRL's conversational preference form."""
    return Dataset.from_list(
        [
            {
                "prompt": conversation(p.prompt),
                "chosen": assistant_turn(p.chosen),
                "rejected": assistant_turn(p.rejected),
            }
            for p in preferences
        ]
    )
