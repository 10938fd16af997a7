"""Scores trials by the project's own metrics and targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fairlead.checks import Check, CheckSettings, JsonSchemaCheck, RegexCheck, build_check
from fairlead.decide import scoring
from fairlead.decide.bench import Trial
from fairlead.decide.scoring import JUDGE_SCORE, Values
from fairlead.decide.settings import Target
from fairlead.decide.verdict import Candidate, Usage
from fairlead.decide.writer import Failure
from fairlead.errors import ConfigError
from fairlead.evaluation.statistics import Interval, bounded_mean_interval
from fairlead.judges.build import open_judge
from fairlead.judges.settings import JudgeSettings
from fairlead.records import Answer, Prompt

Table = dict[str, list[float | None]]  # by metric, one value per prompt; None where undefined or missing


class Scorer:
    """The metrics, the targets, and the judge where a target is on its score.

    Raises:
        ConfigError: if a target is on the judge's score and there is no judge, or a check's file is missing.
    """

    def __init__(
        self, metrics: Sequence[CheckSettings], targets: Sequence[Target], judge: JudgeSettings | None, folder: Path
    ) -> None:
        self.checks: dict[str, Check] = {m.name: build_check(m, folder) for m in metrics}
        self.targets = targets
        self._formats = [m.name for m in metrics if isinstance(m, RegexCheck | JsonSchemaCheck)]
        self._judge: JudgeSettings | None = None
        self._folder = folder
        if any(target.metric == JUDGE_SCORE for target in targets):
            if judge is None:
                raise ConfigError(
                    f"a target is on {JUDGE_SCORE} and there is no judge", where="decide.targets", remedy="set judge"
                )
            self._judge = judge

    def values(self, trial: Trial, prompts: Sequence[Prompt]) -> Table:
        """Every metric of every answer."""
        found: Table = {
            name: [
                None if reply.text is None else check(reply.text, prompt.gold)
                for prompt, reply in zip(prompts, trial.replies, strict=True)
            ]
            for name, check in self.checks.items()
        }
        if self._judge is not None:
            found[JUDGE_SCORE] = self._scores(self._judge, trial, prompts)
        return found

    def _scores(self, settings: JudgeSettings, trial: Trial, prompts: Sequence[Prompt]) -> list[float | None]:
        items = [Answer(p, r.text) for p, r in zip(prompts, trial.replies, strict=True) if r.text is not None]
        with open_judge(settings, self._folder) as judge:
            scores = iter([score.value for score in judge.score(items)])
        return [None if reply.text is None else next(scores) for reply in trial.replies]

    def candidate(
        self, trial: Trial, values: Mapping[str, Values], prompts: Sequence[Prompt], *, candidates: int = 1
    ) -> Candidate:
        """The figures of a trial.

        Args:
            candidates: how many it is compared with, itself included.
        """
        clusters = [prompt.cluster or prompt.id for prompt in prompts]
        recipe, n = trial.recipe, len(trial.replies)
        return Candidate(
            name=recipe.name,
            model=trial.model,
            family=recipe.family,
            figures=tuple(scoring.figures_of(values, clusters, self.targets, candidates=candidates)),
            usage=_usage(trial),
            malformed=self._malformed(values, clusters),
            recall=_share(trial.recall, clusters),
            shots=sum(trial.shots) / n,
            passages=sum(trial.passages) / n,
            cut=sum(reply.cut for reply in trial.replies) / n,
        )

    def _malformed(self, values: Mapping[str, Values], clusters: Sequence[str]) -> Interval | None:
        """The share of answers that a check of form (regex, json_schema) refuses."""
        if not self._formats:
            return None
        per_answer = zip(*(values[name] for name in self._formats), strict=True)
        return _share([None if None in found else float(0.0 in found) for found in per_answer], clusters)

    def failures(self, trial: Trial, values: Mapping[str, Values], prompts: Sequence[Prompt]) -> list[Failure]:
        """The answers below a target, in the order of the prompts."""
        found: list[Failure] = []
        for number, (prompt, reply) in enumerate(zip(prompts, trial.replies, strict=True)):
            failed = tuple(
                target.metric
                for target in self.targets
                if (value := values[target.metric][number]) is not None and value < target.at_least
            )
            if failed and reply.text is not None:
                found.append(Failure(prompt, reply.text, failed))
        return found


def _usage(trial: Trial) -> Usage:
    cost = scoring.mean([reply.cost for reply in trial.replies])
    # A reply that never came took no time that an answer takes.
    seconds = scoring.mean([reply.seconds for reply in trial.replies if reply.text is not None])
    return Usage(
        input_tokens=scoring.mean([reply.input_tokens for reply in trial.replies]),
        output_tokens=scoring.mean([reply.output_tokens for reply in trial.replies]),
        seconds=None if seconds is None else 1000 * seconds,
        cost=None if cost is None else 1000 * cost,
    )


def _share(values: Values, clusters: Sequence[str]) -> Interval | None:
    present = [(v, c) for v, c in zip(values, clusters, strict=True) if v is not None]
    if not present:
        return None
    return bounded_mean_interval([v for v, _ in present], 0.0, 1.0, [c for _, c in present])
