"""Monitors a DPO training: measure, diagnose, keep or stop, write, show.

After a validation pass, or at the steps where one would be if there are no validation pairs, `TrainingMonitor` goes
through the same order: it checks the policy's samples, diagnoses all that was measured so far, keeps the weights if
they are the best, and stops the training on a failure mode of `watch.stop_on`. Every row that is logged on the way goes
to `metrics.jsonl`, to the trackers and to the dashboard. Validation and sample checks stay within a share of the
training's time, unless decisions rest on them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import transformers
from transformers import TrainerControl, TrainerState, TrainingArguments

from fairlead.config.monitoring import WatchSettings
from fairlead.documents.diagnosis import DIAGNOSIS, Diagnosis, FailureMode, actionable
from fairlead.documents.training import MonitoringOutcome
from fairlead.errors import TrainingError
from fairlead.training.diagnosis.rules import diagnosis
from fairlead.training.measurements import (
    DIAGNOSIS_KEY,
    Measurement,
    Metric,
    Metrics,
    SampleCheck,
    TrainingStep,
    ValidationPass,
    number,
)
from fairlead.training.monitoring.checkpointing import CheckpointKeeper
from fairlead.training.monitoring.dashboard import TrainingDashboard
from fairlead.training.monitoring.recorder import RunRecorder, logged_row, refuse_not_a_number
from fairlead.training.monitoring.retention_set import RetentionSet
from fairlead.training.monitoring.run_info import run_facts, with_prompt_gain
from fairlead.training.monitoring.sample_checks import SampleChecks
from fairlead.training.monitoring.time_budget import Schedule, TimeBudget


class TrainingMonitor(RunRecorder):
    """The monitor of one DPO training; `hf_trainer.train` runs a training with it.

    Args:
        trainer: a `fairlead.training.dpo_trainer` trainer before its first step.
        settings: the `watch` section.
        scratch: folder kept across kills, such as that of the checkpoints; the best weights lie there until the end.
        retention: rows of general use, whose loss is measured at every sample check.
        always: every validation pass is over all pairs and followed by a sample check, whatever it costs; so if
            decisions rest on it.
        dashboard: shows the training while it runs.
        clock: seconds, by which the cost of monitoring is measured.

    Raises:
        TrainingError: if decisions are wanted and there are no validation pairs to rest them on.
    """

    def __init__(
        self,
        trainer: Any,
        settings: WatchSettings,
        scratch: Path,
        *,
        retention: RetentionSet = (),
        always: bool = False,
        dashboard: TrainingDashboard | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        refuse_decisions_without_validation(settings, trainer.eval_dataset)
        self._trainer, self._settings, self._dashboard = trainer, settings, dashboard
        self._always = always or settings.keep == "best" or bool(settings.stop_on)
        self.budget = TimeBudget(settings.cost, clock)
        self.checks = SampleChecks(
            trainer, settings.samples, settings.max_new_tokens, retention, self.budget, always=self._always
        )
        self._keeper = CheckpointKeeper(self._model, scratch, settings.max_kl)
        self._stopped_on: FailureMode | None = None
        self._rows: list[dict[str, Metric]] = []
        self._facts: Metrics = {}  # logged with the first step
        self._tokens = (0, 0.0)  # tokens trained on and seconds of training at the last logged step

    # The trainer's events

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._rows = self.outputs.cut_back(state.global_step)
        self._take_up(state.global_step)
        if not any("run/beta" in row for row in self._rows):
            with self.budget.monitoring():
                facts = run_facts(self._trainer, steps=state.max_steps, keep=self._settings.keep)
                samples = self.checks.samples
                facts = with_prompt_gain(facts, self._trainer, samples, whatever_it_costs=self._always)
            self._facts = facts.to_metrics()
        self.budget.begin(self._schedule(args, state), state.global_step)
        if self._dashboard is not None:
            self._dashboard.begin(state)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._facts:  # not earlier: a tracker that is logged to before it was told of the training goes astray
            self._log(self._facts)
            self._facts = {}

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.budget.step_ended(state.global_step)
        if self._trainer.eval_dataset is None:
            if state.global_step % _eval_every(args) == 0:
                self._without_validation(state)
        else:
            self._plan_validation(state, control)
        self.outputs.bar.update(state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Writes and shows a row of the log; a loss that is not a number is diagnosed and ends the training."""
        row = logged_row(state, logs) | self._additions(logs or {})
        self._rows.append(row)
        if TrainingStep.from_metrics(row).not_finite:
            self.write_diagnosis(self.outputs.metrics.parent)
        self.outputs.write(args, state, control, row, **kwargs)
        if self._dashboard is not None:
            self._dashboard.show(row, state)
        refuse_not_a_number(row, self.outputs.metrics)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if not self.budget.running:  # a pass before or after the training
            return
        self.budget.pass_ended(self._pairs_of_pass)
        full, self._trainer.pass_pairs = self._trainer.pass_pairs is None, None
        measurement = self._measure(state, validation=ValidationPass.from_metrics(self._rows[-1], full=full))
        current = self._diagnose()
        if self._settings.keep == "best":
            self._keeper.consider(measurement)
        self._stop(state, control, current)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.budget.tick()
        if self._trainer.eval_dataset is None:
            self._measure(state)
        self.budget.end()
        self._log(self.budget.clock.to_metrics())
        self._diagnose(only_news=True)
        if self._dashboard is not None:
            self._dashboard.end()

    def close(self) -> None:
        if self._dashboard is not None:
            self._dashboard.close()

    # After the training

    def finish(self, out: Path) -> MonitoringOutcome:
        """Puts the kept weights into the model, writes diagnosis.json, and returns what was decided.

        When samples are checked depends on the clock, so what was measured on them stands in diagnosis.json and not in
        the outcome, which is the same in every run. Decisions rest on checks after every validation pass.

        Args:
            out: folder for diagnosis.json.

        Raises:
            TrainingError: if the best weights are wanted and no sample check lay inside the KL bound.
        """
        if self._settings.keep == "best":
            self._keeper.restore()
        self.write_diagnosis(out)
        kept = self._keeper.kept
        return MonitoringOutcome(
            stopped_on=self._stopped_on,
            kept_step=None if kept is None else kept.step,
            kept_gap=None if kept is None else kept.gap,
            kept_kl=None if kept is None else kept.kl,
        )

    def write_diagnosis(self, out: Path) -> None:
        """Writes diagnosis.json: every finding of the training so far, and the metrics beside them."""
        diagnosis(self._rows, self._settings.thresholds).write(out / DIAGNOSIS)

    # Measure, diagnose, stop

    def _plan_validation(self, state: TrainerState, control: TrainerControl) -> None:
        """Decides whether a validation pass follows this step, and over how many pairs."""
        last = state.global_step >= state.max_steps
        if self._always:
            control.should_evaluate |= last  # what is kept at the end is measured too
        elif last:
            control.should_evaluate = self.budget.fits(state.global_step, len(self._trainer.eval_dataset))
        elif control.should_evaluate:
            pairs = self.budget.pairs_of_next_pass(state.global_step)
            control.should_evaluate = pairs > 0
            self._trainer.pass_pairs = pairs or None

    def _without_validation(self, state: TrainerState) -> None:
        """Measures and diagnoses at the steps where a validation pass would be; the last is left to the end."""
        if state.global_step < state.max_steps:
            self._measure(state)
        self._diagnose()

    def _measure(self, state: TrainerState, *, validation: ValidationPass | None = None) -> Measurement:
        """What is known at this step: the validation pass that was just made, and a sample check if it is due."""
        return Measurement(state.global_step, validation, self._check_samples(state.global_step))

    def _check_samples(self, step: int) -> SampleCheck | None:
        """Checks the policy's samples and logs what they show, if it is time to and the time is there."""
        if not self.checks.can_check(step):
            return None
        with self.budget.monitoring():
            if reference := self.checks.prepare(step):
                self._log(reference)
        if not self.checks.is_due(step):
            return None
        with self.budget.monitoring():
            check = self.checks.check(step)
        self._log(check.to_metrics() | self.budget.clock.to_metrics())
        return check

    def _diagnose(self, *, only_news: bool = False) -> Diagnosis:
        """Says and logs what all measurements so far mean; with `only_news` logs nothing that was logged last."""
        current = diagnosis(self._rows, self._settings.thresholds)
        last = next((row[DIAGNOSIS_KEY] for row in reversed(self._rows) if DIAGNOSIS_KEY in row), None)
        if not only_news or current.sentence != last:
            self._log({DIAGNOSIS_KEY: current.sentence})
        return current

    def _stop(self, state: TrainerState, control: TrainerControl, current: Diagnosis) -> None:
        """Ends the training if a failure mode of `watch.stop_on` was diagnosed."""
        stop_on = self._settings.stop_on
        reason = next((finding.rule for finding in actionable(current.findings) if finding.rule in stop_on), None)
        if reason is not None and state.global_step < state.max_steps:
            self._stopped_on = reason
            control.should_training_stop = True
            self._log({"watch/stopped": reason})

    # The log

    def _additions(self, logs: Mapping[str, Any]) -> dict[str, Metric]:
        """What the trainer does not log: the pairs of a validation pass, and the tokens per second of a step."""
        if not self.budget.running:
            return {}
        additions: dict[str, Metric] = {}
        if "eval_loss" in logs:
            additions["eval_pairs"] = self._pairs_of_pass
        if "loss" in logs and "num_tokens" in logs:
            self.budget.tick()
            # TRL logs the mean over the steps since the last row.
            tokens, seconds = self._trainer.trained_tokens, self.budget.clock.training
            additions["num_tokens"] = tokens
            if seconds > self._tokens[1]:
                speed = (tokens - self._tokens[0]) / (seconds - self._tokens[1])
                additions["tokens_per_second"] = round(speed, 1)
            self._tokens = (tokens, seconds)
        return additions

    def _log(self, row: Metrics) -> None:
        # TRL's own `log` would empty the means that it gathers for the next row of the training.
        transformers.Trainer.log(self._trainer, dict(row))

    # What the monitor knows of the trainer

    def _take_up(self, step: int) -> None:
        """Resumes with the time, the checks and the kept weights of a run that was killed."""
        self.budget.take_up(self._rows)
        self.checks.take_up(self._rows)
        self._keeper.take_up(step)
        tokens = [count for row in self._rows if (count := number(row.get("num_tokens"))) is not None]
        if tokens:  # TRL counts from 0 again
            self._trainer.trained_tokens = int(tokens[-1])
        self._tokens = (self._trainer.trained_tokens, self.budget.clock.training)

    def _schedule(self, args: TrainingArguments, state: TrainerState) -> Schedule:
        validation = self._trainer.eval_dataset
        return Schedule(
            steps=state.max_steps,
            eval_every=_eval_every(args),
            pairs_per_step=args.train_batch_size * args.gradient_accumulation_steps,
            validation_pairs=0 if validation is None else len(validation),
        )

    @property
    def _pairs_of_pass(self) -> int:
        """Pairs of the validation pass that is going on."""
        return self._trainer.pass_pairs or len(self._trainer.eval_dataset)

    def _model(self) -> Any:
        return self._trainer.accelerator.unwrap_model(self._trainer.model, keep_fp32_wrapper=True)


def refuse_decisions_without_validation(settings: WatchSettings, validation: Any) -> None:
    """Checks that what `watch` decides can be decided.

    Raises:
        TrainingError: if decisions are wanted and there are no validation pairs.
    """
    if validation is None and (settings.keep == "best" or settings.stop_on):
        raise TrainingError(
            "needs validation pairs, and there are none",
            where="watch.keep" if settings.keep == "best" else "watch.stop_on",
            remedy="set pairs.validation above 0, or leave keep: last and stop_on: []",
        )


def _eval_every(args: TrainingArguments) -> int:
    return max(1, int(args.eval_steps or 1))
