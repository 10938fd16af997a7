"""Checks of the policy's own answers to fixed prompts: how far it is from the reference, how long, how varied.

The reference's answers are drawn once, with the same noise, so that they differ from the policy's only where the two
models do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fairlead.models.kl import per_answer, per_token
from fairlead.text.repetition import distinct_n, tokens_loop
from fairlead.training.measurements import KLMetrics, Metric, Metrics, SampleCheck, SampleStatistics, number
from fairlead.training.monitoring.policy_samples import PolicySamples
from fairlead.training.monitoring.retention_set import RetentionSet, mean_loss
from fairlead.training.monitoring.time_budget import CHECKS, SCORING, TimeBudget, prompts_affordable

_TRIAL_TOKENS = 4
_LONGEST_DEFAULT = 512
_LONGEST_TEXT = 400  # characters of a prompt and of a sample that are logged


class SampleChecks:
    """The sample checks of one training.

    Args:
        trainer: a `fairlead.DPOTrainer` before its first step.
        count: prompts at most, the first ones of the validation pairs, or of the training pairs without those.
        max_new_tokens: longest answer; 1.5 times the longest of the training pairs if None.
        retention: rows of general use, whose loss is measured at every check.
        budget: the time that checks may take.
        always: whether checks are made whatever they cost, because decisions rest on them.
    """

    def __init__(
        self,
        trainer: Any,
        count: int,
        max_new_tokens: int | None,
        retention: RetentionSet,
        budget: TimeBudget,
        *,
        always: bool,
    ) -> None:
        pairs = trainer.eval_dataset if trainer.eval_dataset is not None else trainer.train_dataset
        prompts = list(dict.fromkeys(tuple(ids) for ids in pairs["prompt_ids"]))[:count]
        self.samples = PolicySamples(trainer, prompts, max_new_tokens or _longest_answer(trainer.train_dataset))
        self._retention, self._budget, self._always = retention, budget, always
        self._count = len(prompts)
        self._calibrated = always  # whether the number of prompts is settled
        self._reference_logged = False
        self._reference: list[list[int]] | None = None  # the reference's answers
        self._made, self._checked_at = 0, -1
        self._seconds: float | None = None  # of one check

    def take_up(self, rows: Sequence[Metrics]) -> None:
        """Resumes with the checks of the run that was killed.

        Args:
            rows: of its `metrics.jsonl`, up to the step from which it is resumed.
        """
        self._made = sum("watch/kl" in row for row in rows)
        counts = [count for row in rows if (count := number(row.get("watch/samples"))) is not None]
        if counts:
            self._count, self._calibrated = min(self._count, int(counts[-1])), True
        self._reference_logged = any("watch/reference_length" in row for row in rows)

    def can_check(self, step: int) -> bool:
        """Whether there are prompts, and the step has none of its checks yet."""
        return self._count > 0 and step > 0 and step != self._checked_at

    def prepare(self, step: int) -> dict[str, Metric]:
        """Draws the reference's answers, once, if the time allows it; returns what has to be logged of them."""
        if self._reference is not None or not (self._calibrated or self._calibrate(step)):
            return {}
        started = self._budget.now()
        self._reference = self.samples.draw(self._count, reference=True)
        metrics: dict[str, Metric] = {}
        if not self._reference_logged:
            metrics |= self._statistics(self._reference).to_metrics("watch/reference_")
            if self._retention:
                metrics["watch/general_loss_start"] = mean_loss(self.samples.reference_log_probs, self._retention)
        self._seconds = SCORING * (self._budget.now() - started)
        self._reference_logged = True
        return metrics

    def is_due(self, step: int) -> bool:
        """Whether to check at this step: what it is compared with is there, and so is the time."""
        if self._reference is None or self._seconds is None:
            return False
        return self._always or self._budget.check_is_due(step, self._made, self._seconds)

    def check(self, step: int) -> SampleCheck:
        """Draws an answer to every prompt and scores it under policy and reference."""
        started = self._budget.now()
        prompts = self.samples.prompts[: self._count]
        answers = self.samples.draw(self._count)
        unchanged = sum(a == b for a, b in zip(answers, self._reference or [], strict=True))
        logged = self._made % self._count
        result = SampleCheck(
            step=step,
            prompts=self._count,
            kl=_kl_metrics(self.samples.kls(prompts, answers), answers),
            statistics=self._statistics(answers),
            unchanged=unchanged / self._count,
            general_loss=mean_loss(self.samples.log_probs, self._retention) if self._retention else None,
            prompt=self.samples.text(prompts[logged])[-_LONGEST_TEXT:],
            sample=self.samples.text(answers[logged])[:_LONGEST_TEXT],
        )
        self._made, self._checked_at = self._made + 1, step
        self._seconds = self._budget.now() - started
        return result

    def _calibrate(self, step: int) -> bool:
        """Settles the number of prompts by drawing a few tokens; False where no draw can be afforded now."""
        per_row = self._budget.seconds_per_pair(step)
        # Rows of general use are scored with every check; a prompt is read twice in the trial below.
        left = self._budget.left_for_checks(step) - (1 + CHECKS) * len(self._retention) * per_row
        tried = min(self._count, int(left / (3 * per_row)))
        if tried < 1:
            return False
        seconds = []
        for limit in (1, 1 + _TRIAL_TOKENS):
            started = self._budget.now()
            self.samples.draw(tried, limit=limit)
            seconds.append(self._budget.now() - started)
        per_token = max(0.0, seconds[1] - seconds[0]) / _TRIAL_TOKENS
        draw = seconds[0] + per_token * (self.samples.max_new_tokens - 1)
        count = prompts_affordable(tried, draw, left - sum(seconds))
        if count:
            self._count, self._calibrated = count, True
        return count > 0

    def _statistics(self, answers: Sequence[Sequence[int]]) -> SampleStatistics:
        lengths = [len(answer) for answer in answers]
        mean = sum(lengths) / len(lengths)
        variance = sum((n - mean) ** 2 for n in lengths) / max(1, len(lengths) - 1)
        return SampleStatistics(
            length=mean,
            length_error=math.sqrt(variance / len(lengths)),
            loops=sum(map(tokens_loop, answers)) / len(answers),
            cut=sum(not self.samples.ended(answer) for answer in answers) / len(answers),
            distinct_1=distinct_n(answers, 1),
            distinct_2=distinct_n(answers, 2),
        )


def _kl_metrics(kls: Sequence[float], answers: Sequence[Sequence[int]]) -> KLMetrics:
    answer, token = per_answer(kls), per_token(kls, [len(answer) for answer in answers])
    return KLMetrics(
        kl=number(answer.value),
        kl_error=number(answer.error),
        kl_token=number(token.value),
        kl_token_error=number(token.error),
    )


def _longest_answer(dataset: Any) -> int:
    longest = max(len(ids) for side in ("chosen_ids", "rejected_ids") for ids in dataset[side])
    return min(_LONGEST_DEFAULT, math.ceil(1.5 * longest))
