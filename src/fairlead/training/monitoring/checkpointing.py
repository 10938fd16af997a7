"""Acts on what is seen in a training: names the illness, stops on it, keeps the best weights inside a KL bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import transformers
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from fairlead.config.monitoring import WatchSettings
from fairlead.documents.diagnosis import DIAGNOSIS, Finding, actionable
from fairlead.errors import TrainingError
from fairlead.files import read_json, write_json
from fairlead.training.diagnosis.rules import diagnose, diagnosis, sentence
from fairlead.training.hf_trainer import finite, read_metrics
from fairlead.training.measurements import number
from fairlead.training.monitoring.monitor import Monitor

BEST = "best"
SAID = "watch/diagnosis"


@dataclass(frozen=True)
class Best:
    """The weights that are kept.

    Attributes:
        gap: reward gap on the validation pairs.
        kl: nats per answer from the reference; None where it was not measured.
    """

    step: int
    gap: float
    kl: float | None


class Watch(TrainerCallback):
    """Diagnoses after every validation, and does what the `watch` section says.

    Args:
        trainer: a `fairlead.DPOTrainer`.
        settings: the `watch` section.
        metrics: the run's `metrics.jsonl`.
        scratch: folder that a resumed run finds again; the best weights lie there until the end.
    """

    def __init__(self, trainer: Any, settings: WatchSettings, metrics: Path, scratch: Path) -> None:
        self._trainer, self._settings, self._metrics = trainer, settings, metrics
        self._folder = scratch / BEST
        self._rows: list[dict[str, Any]] = []
        self._outside: list[tuple[float, int]] = []
        self.best: Best | None = None
        self.stopped: Finding | None = None
        self.findings: list[Finding] = []
        self._over = False  # a pass after the training is not watched

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # Rows that the monitor has just logged are in the file too; rows of one step and kind count once.
        self._rows = [row for row in read_metrics(self._metrics) if row["step"] <= state.global_step] + self._rows
        kept = self._folder / "best.json"
        if kept.is_file():
            best = Best(**read_json(kept))
            # Of a later step than the checkpoint: the run comes there again, and finds the same.
            self.best = best if best.step <= state.global_step else None

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        row = {"step": state.global_step, **{key: finite(value) for key, value in (logs or {}).items()}}
        self._rows.append(row)
        if row.get("loss", 0.0) is None or row.get("grad_norm", 0.0) is None:
            # The log ends the training on such a row, so this is the last moment to say why.
            self.findings = diagnose(self._rows, self._settings.thresholds)
            self._write(self._metrics.parent)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._trainer.eval_dataset is None and state.global_step % int(args.eval_steps or 1) == 0:
            self._diagnose()

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._over or not state.global_step or not self._rows:
            return
        self._diagnose()
        if self._settings.keep == "best":
            self._keep(state.global_step)
        ending = [found for found in actionable(self.findings) if found.rule in self._settings.stop_on]
        if ending and state.global_step < state.max_steps:
            self.stopped = ending[0]
            control.should_training_stop = True
            self._log({"watch/stopped": ending[0].rule})

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._diagnose(only_news=True)
        self._over = True

    def _diagnose(self, *, only_news: bool = False) -> None:
        """Says what all that was seen so far means; `only_news` says nothing that was said last."""
        self.findings = diagnose(self._rows, self._settings.thresholds)
        said = sentence(self._rows, self.findings)
        if not only_news or said != next((r[SAID] for r in reversed(self._rows) if SAID in r), None):
            self._log({SAID: said})

    def _keep(self, step: int) -> None:
        gap = next(
            (g for row in reversed(self._rows) if (g := number(row.get("eval_rewards/margins"))) is not None), None
        )
        kl = next((row["watch/kl"] for row in reversed(self._rows) if "watch/kl" in row and row["step"] == step), None)
        if gap is None:
            return
        bound = self._settings.max_kl
        if bound is not None and (kl is None or kl > bound):
            self._outside += [] if kl is None else [(kl, step)]
            return
        if self.best is None or gap > self.best.gap:
            self.best = Best(step, gap, kl)
            self._folder.mkdir(parents=True, exist_ok=True)
            save_file(_trained(self._model), self._folder / f"weights-{step}.safetensors")
            write_json(self._folder / "best.json", asdict(self.best))
            for old in self._folder.glob("weights-*.safetensors"):
                if old.name != f"weights-{step}.safetensors":
                    old.unlink()

    def finish(self, out: Path) -> dict[str, Any]:
        """Puts the kept weights into the model, writes diagnosis.json, and returns what was decided.

        When it looks depends on the clock, so what it saw stands in diagnosis.json and not among the figures, which
        are the same in every run. Decisions rest on looks at every validation, and do not depend on the clock.

        Args:
            out: folder for diagnosis.json: every finding with its evidence, meaning, remedy and config keys, the last
                KL, and the watch's share of the training's time.

        Raises:
            TrainingError: if the best weights are wanted and no look lay inside the KL bound.
        """
        self.findings = diagnose(self._rows, self._settings.thresholds)
        if self._settings.keep == "best":
            self._restore()
        self._write(out)
        return {
            "stopped_on": None if self.stopped is None else self.stopped.rule,
            "kept_step": None if self.best is None else self.best.step,
            "kept_gap": None if self.best is None else self.best.gap,
            "kept_kl": None if self.best is None else self.best.kl,
        }

    def _write(self, out: Path) -> None:
        diagnosis(self._rows, self._settings.thresholds).write(out / DIAGNOSIS)

    def _restore(self) -> None:
        if self.best is None:
            nearest = min(self._outside, default=None)
            seen = "" if nearest is None else f"; the smallest was {nearest[0]:.3g} at step {nearest[1]}"
            raise TrainingError(
                f"no validation pass lay inside max_kl {self._settings.max_kl or 0:g} nats per answer{seen}",
                where="watch.max_kl",
                remedy="raise watch.max_kl or dpo.beta, lower dpo.learning_rate, or validate more often (eval_every)",
            )
        weights = load_file(self._folder / f"weights-{self.best.step}.safetensors")
        for name, tensor in _trained(self._model).items():
            tensor.copy_(weights[name])

    @property
    def _model(self) -> Any:
        return self._trainer.accelerator.unwrap_model(self._trainer.model, keep_fp32_wrapper=True)

    def _log(self, row: dict[str, Any]) -> None:
        transformers.Trainer.log(self._trainer, row)


def _trained(model: Any) -> dict[str, Any]:
    """The tensors that the training moves, by name; those that share memory once."""
    seen: set[int] = set()
    found = {}
    for name, parameter in model.named_parameters():
        frozen_copy = isinstance(model, PeftModel) and ".ref." in name
        if parameter.requires_grad and not frozen_copy and parameter.data_ptr() not in seen:
            seen.add(parameter.data_ptr())
            found[name] = parameter.detach()
    return found


def attach(
    trainer: Any,
    settings: WatchSettings,
    metrics: Path,
    scratch: Path,
    *,
    general: Sequence[tuple[list[int], list[int]]] = (),
) -> Watch:
    """Adds monitor and watch to a trainer, before `loop.train` adds the log.

    Args:
        metrics: the run's `metrics.jsonl`.
        scratch: folder kept across kills, such as that of the checkpoints.
        general: (prompt tokens, answer tokens) of general use.

    Raises:
        TrainingError: if decisions are wanted and there are no validation pairs to rest them on.
    """
    decides = settings.keep == "best" or bool(settings.stop_on)
    if decides and trainer.eval_dataset is None:
        raise TrainingError(
            "needs validation pairs, and there are none",
            where="watch.keep" if settings.keep == "best" else "watch.stop_on",
            remedy="set pairs.validation above 0, or leave keep: last and stop_on: []",
        )
    watch = Watch(trainer, settings, metrics, scratch)
    monitor = Monitor(trainer, settings, metrics, general=general, always=decides)
    # Before the trackers, so that what is added to a row reaches them; after the trainer's own flow.
    trainer.callback_handler.callbacks[1:1] = [monitor, watch]
    return watch
