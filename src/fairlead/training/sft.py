"""The `sft` stage: `fairlead.SFTTrainer` on rows of prompt and answer; the loss is on the answer's tokens only."""

from __future__ import annotations

import logging

from datasets import Dataset
from trl import SFTConfig

from fairlead.config.stage_settings import SftSettings
from fairlead.data.splits import split_by_prompt
from fairlead.documents.training import SftFigures
from fairlead.errors import TrainingError
from fairlead.models.chat import assistant_turn, conversation
from fairlead.models.loading import load_base, load_tokenizer
from fairlead.pipeline.outputs import SFT_ROWS
from fairlead.pipeline.stage import Context, Metrics
from fairlead.records import Example
from fairlead.training import hf_trainer
from fairlead.training.sft_trainer.trainer import SFTTrainer

logger = logging.getLogger(__name__)

_METRICS = [("eval_loss", "validation_loss"), ("eval_mean_token_accuracy", "validation_token_accuracy")]


def run(context: Context[SftSettings]) -> Metrics:
    """Writes model/ (an adapter, or full weights) and metrics.jsonl."""
    section, model_section, lora = context.settings.sft, context.settings.model, context.settings.lora
    examples = context.read(SFT_ROWS)
    if not examples:
        raise TrainingError("no row is left to train on", where="data.sft", remedy="give more rows, or check for leaks")
    train, validation = split_by_prompt(
        [example.prompt for example in examples], section.validation, seed=context.seed, threshold=1.0
    )
    tokenizer = load_tokenizer(model_section, context.folder)
    model = load_base(model_section, context.folder)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(**hf_trainer.arguments(section, context, validated=bool(validation))),
        train_dataset=dataset([examples[i] for i in train]),
        eval_dataset=dataset([examples[i] for i in validation]) if validation else None,
        processing_class=tokenizer,
        peft_config=hf_trainer.lora_config(lora, model, model_section.name) if section.method == "lora" else None,
    )
    trained_rows = _kept(trainer.train_dataset, len(train), section.max_length)
    kept_validation = _kept(trainer.eval_dataset, len(validation), section.max_length) if validation else 0
    hf_trainer.train(trainer, context, "supervised fine-tuning")
    metrics = hf_trainer.validation_metrics(trainer, _METRICS)
    hf_trainer.save(trainer.accelerator.unwrap_model(trainer.model), tokenizer, model_section, context.out / "model")
    figures = SftFigures(
        train=trained_rows,
        validation=kept_validation,
        steps=trainer.state.global_step,
        train_loss=hf_trainer.last_logged(trainer, "loss"),
        validation_loss=metrics["validation_loss"],
        validation_token_accuracy=metrics["validation_token_accuracy"],
    )
    return figures.model_dump(mode="json")


def _kept(rows: Dataset, total: int, max_length: int) -> int:
    """How many rows are left: TRL silently drops those whose prompt alone fills `max_length`.

    Raises:
        TrainingError: if none is left.
    """
    remaining = len(rows)
    if not remaining:
        raise TrainingError(
            f"all {total} rows have a prompt of {max_length} tokens or more, so no answer is left to learn from",
            where="sft.max_length",
            remedy="raise sft.max_length, or shorten the prompts",
        )
    if remaining < total:
        logger.warning(
            "%d of %d rows have a prompt of %d tokens or more: dropped (sft.max_length)",
            total - remaining,
            total,
            max_length,
        )
    return remaining


def dataset(examples: list[Example]) -> Dataset:
    """TRL's conversational prompt-completion form."""
    return Dataset.from_list(
        [{"prompt": conversation(example.prompt), "completion": assistant_turn(example.answer)} for example in examples]
    )
