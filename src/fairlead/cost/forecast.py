"""What a run would ask, cost and take, before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from fairlead.cost.decision_cost import dev_prompts, ready_pairs
from fairlead.cost.durations import Sizes, measure_speed, stage_seconds
from fairlead.cost.judge_cost import CHARS_PER_TOKEN
from fairlead.cost.planned_calls import StageEstimate, completions_per_prompt, estimate_run
from fairlead.data.reading.readers import read_examples, read_prompts
from fairlead.pipeline.lock_file import LockFile
from fairlead.pipeline.project import Project
from fairlead.pipeline.stage import Stage, resolve


@dataclass(frozen=True)
class StageTime:
    """Rough seconds of a stage, and what they are based on."""

    stage: str
    seconds: float
    basis: str


@dataclass(frozen=True)
class Forecast:
    """What the stages that are still to run would ask, cost and take.

    Attributes:
        judges: of every stage that asks judges or other models by requests.
        times: of every stage that takes more than a moment.
        currency: of the costs; None where the config names none.
    """

    judges: tuple[StageEstimate, ...]
    times: tuple[StageTime, ...]
    currency: str | None

    @property
    def answered(self) -> tuple[str, ...]:
        """Stages all of whose questions have stored replies."""
        return tuple(row.stage for row in self.judges if row.judges and not any(judge.calls for judge in row.judges))

    @property
    def seconds(self) -> float:
        return sum(row.seconds for row in self.times)


def forecast(project: Project, stages: Sequence[Stage], parameters: int | None) -> Forecast:
    """What these stages would ask, cost and take.

    Args:
        parameters: of the base model; None where they are not known, and nothing is said of its stages' times.
    """
    names = [stage.name for stage in stages]
    judges = tuple(row for row in estimate_run(project, names) if row.stage in names)
    times = _times(project, names, parameters, judges)
    return Forecast(judges, times, project.config.currency)


def _times(
    project: Project, stages: Sequence[str], parameters: int | None, judges: Sequence[StageEstimate]
) -> tuple[StageTime, ...]:
    entries = LockFile.read(project.folder).entries
    asked = {row.stage: sum(judge.seconds or 0.0 for judge in row.judges) for row in judges}
    computing = [name for name in stages if name in ("decide", "sft", "sample", "dpo", "answers", "arms", "probe")]
    speed = measure_speed(project.config.model.dtype) if parameters is not None and computing else None
    sizes = _sizes(project) if speed is not None else None
    times: list[StageTime] = []
    for name in stages:
        if name in entries:
            times.append(StageTime(name, entries[name].seconds, "last time"))
            continue
        replies, seconds = asked.get(name, 0.0), 0.0
        if parameters is not None and speed is not None and sizes is not None:
            seconds = stage_seconds(name, project.config, sizes, parameters, speed)
        times.append(StageTime(name, replies + seconds, "measured speed" if seconds else "the models' replies"))
    return tuple(row for row in times if row.seconds >= 1)


def _sizes(project: Project) -> Sizes:
    config, data = project.config, project.config.data
    examples = read_examples(resolve(project.folder, data.sft)) if data.sft else []
    prompts = read_prompts(resolve(project.folder, data.prompts)) if data.prompts else []
    evals = read_prompts(resolve(project.folder, data.eval))
    pairs = ready_pairs(project)
    most = config.answers.max_new_tokens
    answers = [example.answer for example in examples] or [pair.chosen for pair in pairs]
    return Sizes(
        sft=len(examples),
        prompts=len(prompts),
        pairs=len(prompts) or len(pairs),
        eval=len(evals),
        dev=len(dev_prompts(project)),
        prompt_tokens=fmean([len(prompt.text) for prompt in evals] or [0]) / CHARS_PER_TOKEN,
        answer_tokens=min(most, fmean(map(len, answers)) / CHARS_PER_TOKEN) if answers else most,
        completions=completions_per_prompt(config),
    )
