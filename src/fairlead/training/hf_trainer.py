"""What SFT and DPO share: trainer arguments, the run's metrics, checkpoints, and what is saved at the end."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.integrations import integration_utils

from fairlead.config.model import ModelSection
from fairlead.config.training import LoraSection, TrainSection
from fairlead.errors import ModelError, TrainingError, some
from fairlead.files import dump_json, write_atomic
from fairlead.models import hardware
from fairlead.pipeline.stage import Context
from fairlead.progress import Task

METRICS = "metrics.jsonl"
CHECKPOINTS = "checkpoints"


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
        "bf16": hardware.computes_bf16(on),
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
        task_type="CAUSAL_LM",
    )


class RunLog(TrainerCallback):
    """Writes what the trainer logs to `metrics.jsonl` and moves the bar.

    A resumed run first cuts the file back to the checkpoint's step, so that the curve is that of one run.
    """

    def __init__(self, path: Path, bar: Task, total: int) -> None:
        self._path, self._bar, self._total = path, bar, total

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        del args, control, kwargs
        kept = [row for row in read_metrics(self._path) if row["step"] <= state.global_step]
        write_atomic(self._path, "".join(dump_json(row) + "\n" for row in kept))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        del args, control, kwargs
        self._bar.update(state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        del args, control, kwargs
        row = {"step": state.global_step, **{key: finite(value) for key, value in (logs or {}).items()}}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(dump_json(row) + "\n")
        if row.get("loss", 0.0) is None or row.get("grad_norm", 0.0) is None:
            raise TrainingError(
                f"not_a_number: the loss or its gradient is not a number at step {state.global_step}",
                where=str(self._path),
                remedy="lower learning_rate (a tenth is a good try), or train in float32 (model.dtype)",
            )


def finite(value: Any) -> Any:
    """Numbers as they are; NaN and infinity as None, because absence is not a value."""
    if isinstance(value, float) and not torch.isfinite(torch.tensor(value)):
        return None
    return value


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl`; a torn last line, left by a kill, is passed over."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def train(trainer: Trainer, context: Context[Any], what: str) -> None:
    """Trains with a bar, going on from the newest whole checkpoint."""
    checkpoint = newest_checkpoint(context.out / CHECKPOINTS)
    steps = _steps(trainer)
    with context.progress.task(context.stage, what, steps) as bar:
        trainer.add_callback(RunLog(context.out / METRICS, bar, steps))
        for callback in list(trainer.callback_handler.callbacks):
            if type(callback).__name__ in ("PrinterCallback", "ProgressCallback"):
                trainer.remove_callback(callback)
            elif type(callback).__module__ == integration_utils.__name__:
                _give_what_it_takes(callback)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


def _give_what_it_takes(tracker: Any) -> None:
    """Keeps from a tracker what it would drop with a warning: None everywhere, text where only numbers are taken."""
    texts = any(name in type(tracker).__name__ for name in ("TensorBoard", "Wandb", "Trackio"))
    taken = (int, float, str) if texts else (int, float)
    log = tracker.on_log

    def on_log(*args: Any, logs: Mapping[str, Any] | None = None, **kwargs: Any) -> Any:
        return log(
            *args, logs={key: value for key, value in (logs or {}).items() if isinstance(value, taken)}, **kwargs
        )

    tracker.on_log = on_log


def _steps(trainer: Trainer) -> int:
    args = trainer.args
    per_epoch = -(-len(trainer.train_dataset) // (args.per_device_train_batch_size * max(1, args.world_size)))
    updates = max(1, -(-per_epoch // args.gradient_accumulation_steps))
    return int(-(-updates * args.num_train_epochs // 1))


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written whole: its state file comes last, so half a checkpoint has none."""
    found = []
    for path in folder.glob("checkpoint-*"):
        try:
            state = json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(path, ignore_errors=True)
            continue
        found.append((int(state["global_step"]), path))
    return max(found)[1] if found else None


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


def evaluation_figures(
    trainer: Trainer, names: Sequence[tuple[str, str]], known: Mapping[str, float] | None = None
) -> dict[str, float | None]:
    """Metrics of a pass over all validation rows, by the names that reports use; None without such rows.

    Args:
        known: of a pass that was made with the present weights already.
    """
    if trainer.eval_dataset is None:
        return {ours: None for _, ours in names}
    found = trainer.evaluate() if known is None else known
    return {ours: finite(found.get(theirs)) for theirs, ours in names}
