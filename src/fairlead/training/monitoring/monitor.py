"""Watches a DPO training: looks at the policy's own samples after validation, within a share of the training's time.

What is seen goes through the trainer's log, so into `metrics.jsonl` and to every tracker, under `watch/…`; what the
training began with under `run/…`. Decisions are none of its business.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import transformers
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from fairlead.config.monitoring import WatchSettings
from fairlead.models.kl import KL, kl_estimates
from fairlead.training.hf_trainer import read_metrics
from fairlead.training.monitoring.kl import distinct_n, is_loop
from fairlead.training.monitoring.policy_samples import PolicySamples
from fairlead.training.monitoring.run_info import format_facts, run_facts
from fairlead.training.monitoring.time_budget import (
    FORWARD,
    LOOKS,
    SCORING,
    Clock,
    Validation,
    allowance,
    prompts_affordable,
    wants_look,
)

_PILOT_TOKENS = 4
_LONGEST_DEFAULT = 512
_SHOWN = 400  # characters of a sample that are kept


class Monitor(TrainerCallback):
    """Looks at samples of the policy and says what it saw through the trainer's log.

    Args:
        trainer: a `fairlead.DPOTrainer` before its first step.
        settings: the `watch` section.
        metrics: the run's `metrics.jsonl`, from which a resumed run takes up its time and its looks.
        general: (prompt tokens, answer tokens) of general use; their loss is measured at every look.
        always: every validation is followed by a look, whatever it costs; for decisions that rest on it.
    """

    def __init__(
        self,
        trainer: Any,
        settings: WatchSettings,
        metrics: Path,
        *,
        general: Sequence[tuple[list[int], list[int]]] = (),
        always: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._trainer, self._settings, self._metrics = trainer, settings, metrics
        self._general, self._always, self._now = general, always, clock
        self.clock = Clock()
        self._validation = trainer.eval_dataset
        pairs = self._validation if self._validation is not None else trainer.train_dataset
        prompts = list(dict.fromkeys(tuple(ids) for ids in pairs["prompt_ids"]))[: settings.samples]
        self.samples = PolicySamples(trainer, prompts, settings.max_new_tokens or _longest(trainer.train_dataset))
        self._count = len(prompts)
        self._calibrated = always  # whether the number of prompts is settled
        self._pairs: int | None = None  # of a pass before the last, once that is settled
        self._passes, self._passing = 0, 0.0  # how many, and the seconds they took
        self._pass_seconds: float | None = None  # per pair
        self._looks = 0
        self._look_seconds: float | None = None
        self._begun = False  # whether the reference's figures stand in the log
        self._before: list[list[int]] | None = None  # the reference's answers
        self._looked_at = -1
        self._mark: float | None = None
        self._since = (0.0, 0)  # seconds of training and step from which the pace is taken
        self._slow: float | None = None  # seconds of this run's first step, which says little of the others
        self._tokens = (0, 0.0)
        self._header: dict[str, Any] = {}

    # The trainer's events

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        before = [row for row in read_metrics(self._metrics) if row["step"] <= state.global_step]
        self._take_up(before)
        if not any("run/beta" in row for row in before):
            with self._watching():
                header = {"run/steps": state.max_steps, "run/keep": self._settings.keep} | run_facts(self._trainer)
                header |= format_facts(self._trainer, self.samples, state.max_steps, whatever_it_costs=self._always)
            self._header = header
        self._since = (self.clock.training, state.global_step)
        self._mark = self._now()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._header:  # not earlier: a tracker that is logged to before it was told of the training goes astray
            self._log(self._header)
            self._header = {}

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._tick()
        if self._slow is None:
            self._slow = self.clock.training - self._since[0]
            self._since = (self.clock.training, state.global_step)
        last = state.global_step >= state.max_steps
        if self._validation is None:
            if not last and state.global_step % _every(args) == 0:
                self.look(state)
        elif self._always:
            control.should_evaluate |= last  # what is kept at the end is seen too
        elif last:
            control.should_evaluate = self._fits(state, len(self._validation))
        elif control.should_evaluate:
            control.should_evaluate = self._affords_pass(state)
            if control.should_evaluate:
                self._trainer.eval_dataset = self._validation.select(range(self._pairs or 0))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Adds tokens per second to the row of a training step, and to that of a pass how many pairs it saw."""
        if logs is None or self._mark is None:
            return
        if "eval_loss" in logs:
            logs["eval_pairs"] = len(self._trainer.eval_dataset)
        if "loss" not in logs or "num_tokens" not in logs:
            return
        self._tick()
        # TRL gives the mean over the steps since the last row.
        now = (self._trainer._total_train_tokens, self.clock.training)
        logs["num_tokens"] = now[0]
        if now[1] > self._tokens[1]:
            logs["tokens_per_second"] = round((now[0] - self._tokens[0]) / (now[1] - self._tokens[1]), 1)
        self._tokens = now

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if self._mark is None:  # a pass outside the training
            return
        now = self._now()
        seconds, self._mark = now - self._mark, now
        self.clock.watching += seconds
        pairs = len(self._trainer.eval_dataset)
        self._trainer.eval_dataset = self._validation
        self._pass_seconds = max(self._pass_seconds or 0.0, seconds / pairs)
        self._passes, self._passing = self._passes + 1, self._passing + seconds
        self.look(state)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._tick()
        if self._validation is None:
            self.look(state)
        self._mark = None
        self._log({"watch/seconds": round(self.clock.watching, 3), "watch/share": round(self.clock.share, 4)})

    # What fits into the time

    def _pace(self, state: TrainerState) -> float:
        """Seconds of a training step."""
        seconds, step = self._since
        done = state.global_step - step
        return (self.clock.training - seconds) / done if done else self._slow or 0.0

    def _whole(self, state: TrainerState) -> float:
        """Seconds that watching may take in the whole training, as far as its pace tells."""
        training = self.clock.training + self._pace(state) * (state.max_steps - state.global_step)
        return allowance(training, self._settings.cost)

    def _each(self, state: TrainerState) -> float:
        """Seconds of a validation pair: the slowest that was timed, else projected from the training's own pace."""
        args = self._trainer.args
        trained = args.train_batch_size * args.gradient_accumulation_steps
        return max(1e-9, self._pass_seconds or FORWARD * self._pace(state) / trained)

    def _plan(self, state: TrainerState) -> Validation:
        return Validation(len(self._validation), self._each(state), self._whole(state), self._passing)

    def _affords_pass(self, state: TrainerState) -> bool:
        plan, ahead = self._plan(state), _passes_ahead(state, self._trainer.args)
        if self._pairs is None:
            self._pairs = plan.pairs_of_pass(ahead)
        affordable = min(ahead, plan.passes(self._pairs))
        wanted = math.ceil((self._passes + affordable) * state.global_step / state.max_steps)
        return affordable >= 1 and self._passes < wanted and self._fits(state, self._pairs)

    def _fits(self, state: TrainerState, pairs: int) -> bool:
        return pairs * self._each(state) <= self._whole(state) - self.clock.watching

    def _left_for_looks(self, state: TrainerState) -> float:
        """Seconds of the allowance that are neither spent nor wanted for the passes to come."""
        left = self._whole(state) - self.clock.watching
        if self._validation is None or state.global_step >= state.max_steps:
            return left
        plan, ahead = self._plan(state), _passes_ahead(state, self._trainer.args) - 1
        return left - plan.last - min(ahead, plan.passes(self._pairs or 0)) * (self._pairs or 0) * plan.each

    # Looking

    def look(self, state: TrainerState) -> None:
        """Draws and measures, if it is time to and the time is there."""
        if not self._count or state.global_step == self._looked_at or not state.global_step:
            return
        if self._before is None:
            with self._watching():
                self._begin(state)
        if self._count and self._before is not None and (self._always or self._is_time(state)):
            with self._watching() as seconds:
                row = self._measure()
            self._looks += 1
            self._look_seconds = max(seconds)
            self._looked_at = state.global_step
            self._log(row | {"watch/seconds": round(self.clock.watching, 3), "watch/share": round(self.clock.share, 4)})

    def _is_time(self, state: TrainerState) -> bool:
        assert self._look_seconds is not None
        affordable = self._left_for_looks(state) / max(self._look_seconds, 1e-6)
        last = state.global_step >= state.max_steps
        return wants_look(self._looks, affordable, min(1.0, state.global_step / state.max_steps), last)

    def _begin(self, state: TrainerState) -> None:
        """Finds how many prompts can be afforded, and draws the reference's answers to them."""
        if not self._calibrated and not self._calibrate(state):
            return
        started = self._now()
        self._before = self.samples.draw(self._count, reference=True)
        found = {f"watch/reference_{key}": value for key, value in self._answer_figures(self._before).items()}
        if self._general and not self._begun:
            found["watch/general_loss_start"] = self._general_loss(reference=True)
        self._look_seconds = SCORING * (self._now() - started)
        if not self._begun:
            self._log(found)
            self._begun = True

    def _calibrate(self, state: TrainerState) -> bool:
        """Settles the number of prompts by drawing a few tokens; False where no draw can be afforded now."""
        each = self._each(state)
        # General rows are scored with every look; a prompt is read twice in the trial below.
        left = self._left_for_looks(state) - (1 + LOOKS) * len(self._general) * each
        tried = min(self._count, int(left / (3 * each)))
        if tried < 1:
            return False
        seconds = []
        for limit in (1, 1 + _PILOT_TOKENS):
            started = self._now()
            self.samples.draw(tried, limit=limit)
            seconds.append(self._now() - started)
        token = max(0.0, seconds[1] - seconds[0]) / _PILOT_TOKENS
        draw = seconds[0] + token * (self.samples.max_new_tokens - 1)
        count = prompts_affordable(tried, draw, left - sum(seconds))
        if not count:
            return False
        self._count, self._calibrated = count, True
        return True

    def _measure(self) -> dict[str, Any]:
        samples, count = self.samples, self._count
        prompts = samples.prompts[:count]
        answers = samples.draw(count)
        ratios = [
            (policy - reference).numpy()
            for policy, reference in zip(
                samples.log_probs(prompts, answers), samples.reference_log_probs(prompts, answers), strict=True
            )
        ]
        row: dict[str, Any] = {"watch/samples": count} | _kl_row(kl_estimates(ratios))
        row |= {f"watch/{key}": value for key, value in self._answer_figures(answers).items()}
        # Both were drawn with the same noise, so they differ only where the policies do.
        row["watch/unchanged"] = sum(a == b for a, b in zip(answers, self._before or [], strict=True)) / count
        if self._general:
            row["watch/general_loss"] = self._general_loss(reference=False)
        shown = self._looks % count
        row["watch/prompt"] = samples.text(prompts[shown])[-_SHOWN:]
        row["watch/sample"] = samples.text(answers[shown])[:_SHOWN]
        return row

    def _answer_figures(self, answers: Sequence[Sequence[int]]) -> dict[str, Any]:
        lengths = [len(answer) for answer in answers]
        mean = sum(lengths) / len(lengths)
        variance = sum((n - mean) ** 2 for n in lengths) / max(1, len(lengths) - 1)
        return {
            "length": mean,
            "length_error": math.sqrt(variance / len(lengths)),
            "loops": sum(map(is_loop, answers)) / len(answers),
            "cut": sum(not self.samples.ended(answer) for answer in answers) / len(answers),
            "distinct_1": distinct_n(answers, 1),
            "distinct_2": distinct_n(answers, 2),
        }

    def _general_loss(self, *, reference: bool) -> float:
        """Mean loss in nats per token on the rows of general use."""
        prompts, answers = [p for p, _ in self._general], [a for _, a in self._general]
        score = self.samples.reference_log_probs if reference else self.samples.log_probs
        found = score(prompts, answers)
        return -sum(float(row.sum()) for row in found) / sum(map(len, found))

    # Time

    @contextmanager
    def _watching(self) -> Iterator[list[float]]:
        """Counts what happens inside as watching."""
        self._tick()
        started, found = self._now(), [0.0]
        try:
            yield found
        finally:
            found[0] = self._now() - started
            self.clock.watching += found[0]
            self._mark = None if self._mark is None else self._now()

    def _tick(self) -> None:
        """Counts the time since the last tick as training."""
        if self._mark is not None:
            now = self._now()
            self.clock.training += now - self._mark
            self._mark = now

    def _take_up(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Goes on with the time, the passes and the looks of the run that was killed."""
        self._looks = sum("watch/kl" in row for row in rows)
        counted = [row["watch/samples"] for row in rows if "watch/samples" in row]
        if counted:
            self._count, self._calibrated = min(self._count, counted[-1]), True
        self._begun = any("watch/reference_length" in row for row in rows)
        passes = [row for row in rows if row.get("eval_pairs") and "eval_runtime" in row]
        if passes:
            self._passes, self._pairs = len(passes), passes[0]["eval_pairs"]
            self._passing = sum(row["eval_runtime"] for row in passes)
            self._pass_seconds = max(row["eval_runtime"] / row["eval_pairs"] for row in passes)
        trained = [row["num_tokens"] for row in rows if "num_tokens" in row]
        if trained:  # TRL counts from 0 again
            self._trainer._total_train_tokens = int(trained[-1])
        seen = [row for row in rows if "watch/seconds" in row]
        if seen and seen[-1]["watch/share"]:
            self.clock.watching = float(seen[-1]["watch/seconds"])
            self.clock.training = self.clock.watching * (1 / float(seen[-1]["watch/share"]) - 1)
        self._tokens = (self._trainer._total_train_tokens, self.clock.training)

    def _log(self, row: dict[str, Any]) -> None:
        # TRL's own `log` would empty the means that it gathers for the next row of the training.
        transformers.Trainer.log(self._trainer, row)


def _kl_row(kl: KL) -> dict[str, float | None]:
    """k1 leads: its standard error covers what it says, that of k3 is too small where the ratios' tail is long."""
    return {
        "watch/kl": kl.k1.value,
        "watch/kl_error": kl.k1.error,
        "watch/kl_k3": kl.k3.value,
        "watch/kl_k3_error": kl.k3.error,
        "watch/kl_token": kl.k1_token.value,
        "watch/kl_token_error": kl.k1_token.error,
        "watch/kl_k3_token": kl.k3_token.value,
        "watch/kl_k3_token_error": kl.k3_token.error,
    }


def _every(args: TrainingArguments) -> int:
    return max(1, int(args.eval_steps or 1))


def _passes_ahead(state: TrainerState, args: TrainingArguments) -> int:
    """Passes that the training still comes by before its last step, one at the present step included."""
    return int((state.max_steps - 1) // _every(args) - (state.global_step - 1) // _every(args))


def _longest(dataset: Any) -> int:
    longest = max(len(ids) for side in ("chosen_ids", "rejected_ids") for ids in dataset[side])
    return min(_LONGEST_DEFAULT, math.ceil(1.5 * longest))
