"""What SFT and DPO share: trainer arguments, the training itself, checkpoints, and what is saved at the end."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel
from transformers import (
    DefaultFlowCallback,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    ProgressCallback,
    Trainer,
)

from fairlead.config.model import ModelSection
from fairlead.config.training import LoraSection, TrainSection
from fairlead.errors import ModelError, TrainingError, some
from fairlead.models import hardware
from fairlead.pipeline.stage import Context
from fairlead.training.measurements import METRICS
from fairlead.training.monitoring.recorder import RunOutputs, RunRecorder, finite, take_trackers

CHECKPOINTS = "checkpoints"
TENSORBOARD = "tensorboard"  # beside metrics.jsonl; kept, where the checkpoints are deleted


def arguments(section: TrainSection, context: Context[Any], *, validated: bool) -> dict[str, Any]:
    """Arguments of transformers' `TrainingArguments` that a config section stands for.

    Args:
        validated: whether there are validation rows to evaluate on.
    """
    for tracker in section.report_to:
        if importlib.util.find_spec(tracker) is None:
            raise TrainingError(
                f"the tracker {tracker} is not installed",
                where="report_to",
                remedy=f"pip install {tracker}, or remove it from report_to",
            )
    on = hardware.device()
    return {
        "output_dir": str(context.out / CHECKPOINTS),
        "learning_rate": section.learning_rate,
        "num_train_epochs": section.epochs,
        "per_device_train_batch_size": section.batch_size,
        "per_device_eval_batch_size": section.batch_size,
        "gradient_accumulation_steps": section.gradient_accumulation,
        "max_length": section.max_length,
        "warmup_steps": section.warmup,  # below 1 it is a share of all steps
        "lr_scheduler_type": section.schedule,
        "weight_decay": section.weight_decay,
        "max_grad_norm": section.max_grad_norm,
        "gradient_checkpointing": section.gradient_checkpointing,
        "logging_steps": section.log_every,
        "logging_nan_inf_filter": False,  # it would put the mean of earlier steps in the place of a NaN
        "eval_strategy": "steps" if validated else "no",
        "eval_steps": section.eval_every,
        "save_strategy": "steps",
        "save_steps": section.save_every,
        "save_total_limit": 2,
        "report_to": section.report_to or "none",
        "run_name": f"{context.folder.resolve().name}-{context.stage}",
        "seed": context.seed,
        "data_seed": context.seed,
        "bf16": hardware.computes_bf16(on) and context.settings.model.dtype != "float32",
        "use_cpu": on.type == "cpu",
        "dataloader_pin_memory": on.type == "cuda",
        "disable_tqdm": True,
    }


def lora_config(section: LoraSection, model: PreTrainedModel, name: str) -> LoraConfig:
    """PEFT's config of a new adapter on `model`.

    Raises:
        ModelError: if the model has no module of a target's name, naming those it has.
    """
    if section.targets != "all-linear":
        leaves = {path.rsplit(".", 1)[-1] for path, _ in model.named_modules() if path}
        linear = sorted(
            {
                p.rsplit(".", 1)[-1]
                for p, m in model.named_modules()
                if "Linear" in type(m).__name__ or "Conv1D" in type(m).__name__
            }
        )
        absent = [target for target in section.targets if target not in leaves]
        if absent:
            raise ModelError(
                f"has no modules named {some(absent)}",
                where=name,
                remedy=f"set lora.targets to some of {some(linear, 12)}, or to all-linear",
            )
    return LoraConfig(
        r=section.r,
        lora_alpha=section.alpha,
        lora_dropout=section.dropout,
        target_modules=section.targets,
        exclude_modules=_beside_text(model),
        task_type="CAUSAL_LM",
    )


def _beside_text(model: PreTrainedModel) -> str | None:
    """A pattern of the modules beside the text decoder, which see or hear and are not trained; None if there are none.

    Their projections often have the same names as the decoder's.
    """
    if model.config.get_text_config() is model.config:
        return None
    parts = {id(module): re.escape(path) for path, module in model.named_modules()}
    decoder, head = parts[id(model.get_decoder())], parts[id(model.get_output_embeddings())]
    return rf"(?!{decoder}\.|{head}$).*"


def train(trainer: Trainer, context: Context[Any], what: str, recorder: RunRecorder | None = None) -> None:
    """Trains with a progress bar, from the newest complete checkpoint if there is one.

    Args:
        what: label of the progress bar.
        recorder: records the training, such as a `TrainingMonitor`; a plain one if None.
    """
    checkpoint = newest_checkpoint(context.out / CHECKPOINTS)
    recorder = recorder or RunRecorder()
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    callbacks = trainer.callback_handler.callbacks
    # What transformers has decided of a step is there to be changed, and no other callback has seen it yet.
    position = next(n for n, callback in enumerate(callbacks) if isinstance(callback, DefaultFlowCallback))
    callbacks.insert(position + 1, recorder)
    with context.progress.task(context.stage, what, _steps(trainer)) as bar:
        trackers = take_trackers(trainer, context.out / TENSORBOARD)
        recorder.outputs = RunOutputs(context.out / METRICS, trackers, bar)
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        finally:
            recorder.close()


def _steps(trainer: Trainer) -> int:
    args = trainer.args
    per_epoch = -(-len(trainer.train_dataset) // (args.per_device_train_batch_size * max(1, args.world_size)))
    updates = max(1, -(-per_epoch // args.gradient_accumulation_steps))
    return int(-(-updates * args.num_train_epochs // 1))


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written whole: its state file comes last, so half a checkpoint has none."""
    checkpoints = []
    for path in folder.glob("checkpoint-*"):
        try:
            state = json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(path, ignore_errors=True)
            continue
        checkpoints.append((int(state["global_step"]), path))
    return max(checkpoints)[1] if checkpoints else None


def save(
    model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, section: ModelSection, out: Path
) -> None:
    """Writes the trained adapter, or the full weights, as safetensors with the tokenizer beside it."""
    if isinstance(model, PeftModel):
        # The path of this machine's copy, or the order of a set, would make the same adapter differ between runs.
        config = model.peft_config["default"]
        config.base_model_name_or_path = section.name
        if isinstance(config, LoraConfig) and isinstance(config.target_modules, set):
            config.target_modules = sorted(config.target_modules)
        # The vocabulary is never changed here; to find that out, PEFT would ask the hub for the base's config.
        model.save_pretrained(str(out), selected_adapters=["default"], save_embedding_layers=False)
        (out / "README.md").unlink(missing_ok=True)  # PEFT's empty card; a release writes a real one
    else:
        model.save_pretrained(str(out))
    tokenizer.save_pretrained(str(out))


def validation_metrics(
    trainer: Trainer, names: Sequence[tuple[str, str]], known: Mapping[str, float] | None = None
) -> dict[str, float | None]:
    """Metrics of a pass over all validation rows, by the names that reports use; None without such rows.

    Args:
        names: (name in the log, name in reports).
        known: of a pass that was made with the present weights already.
    """
    if trainer.eval_dataset is None:
        return {ours: None for _, ours in names}
    metrics = trainer.evaluate() if known is None else known
    return {ours: finite(metrics.get(theirs)) for theirs, ours in names}


def last_logged(trainer: Trainer, name: str) -> float | None:
    """A metric of the last step that logged it; None where none did, or it was not finite."""
    value: float | None = finite(next((row[name] for row in reversed(trainer.state.log_history) if name in row), None))
    return value
