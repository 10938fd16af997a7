"""What a run would ask, cost and take, before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from fairlead.cost.durations import Sizes, measure_speed, stage_seconds
from fairlead.cost.judge_cost import CHARS_PER_TOKEN
from fairlead.cost.planned_calls import StageEstimate, completions_per_prompt, estimate_stages
from fairlead.data.reading.readers import read_examples, read_preferences, read_prompts
from fairlead.pipeline.lock_file import LockFile
from fairlead.pipeline.project import Project
from fairlead.pipeline.stage import Stage, resolve

_LARGEST_DEV_SHARE = 5  # one in so many training prompts is kept out for the decision, at most


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
        judges: of every stage that asks a judge by requests.
        times: of every stage that takes more than a moment.
        currency: of the costs; None where the config names none.
        not_estimated: stages whose calls cannot be told beforehand.
    """

    judges: tuple[StageEstimate, ...]
    times: tuple[StageTime, ...]
    currency: str | None
    not_estimated: tuple[str, ...] = ()

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
    judges = tuple(row for row in estimate_stages(project, None) if row.stage in names)
    asks = any(model.kind != "local" for model in project.config.decide.models)
    unknown = ("decide",) if "decide" in names and project.config.decide.waive is None and asks else ()
    times = _times(project, names, parameters, judges)
    return Forecast(judges, times, project.config.currency, unknown)


def _times(
    project: Project, stages: Sequence[str], parameters: int | None, judges: Sequence[StageEstimate]
) -> tuple[StageTime, ...]:
    entries = LockFile.read(project.folder).entries
    asked = {row.stage: sum(judge.seconds or 0.0 for judge in row.judges) for row in judges}
    computing = [name for name in stages if name in ("decide", "sft", "sample", "dpo", "answers", "probe")]
    speed = measure_speed(project.config.model.dtype) if parameters is not None and computing else None
    sizes = _sizes(project) if speed is not None else None
    times: list[StageTime] = []
    for name in stages:
        if name in entries:
            times.append(StageTime(name, entries[name].seconds, "last time"))
        elif asked.get(name):
            times.append(StageTime(name, asked[name], "the judge's replies"))
        elif parameters is not None and speed is not None and sizes is not None:
            seconds = stage_seconds(name, project.config, sizes, parameters, speed)
            times.append(StageTime(name, seconds, "measured speed"))
    return tuple(row for row in times if row.seconds >= 1)


def _sizes(project: Project) -> Sizes:
    config, data = project.config, project.config.data
    examples = read_examples(resolve(project.folder, data.sft)) if data.sft else []
    prompts = read_prompts(resolve(project.folder, data.prompts)) if data.prompts else []
    evals = read_prompts(resolve(project.folder, data.eval))
    pairs = []
    if data.preferences and resolve(project.folder, data.preferences).exists():
        source = (data.preferences_split, data.preferences_format)
        pairs = read_preferences(data.preferences, project.folder, split=source[0], format=source[1]).preferences
    most = config.answers.max_new_tokens
    answers = [example.answer for example in examples] or [pair.chosen for pair in pairs]
    training = len(prompts or examples or pairs)
    return Sizes(
        sft=len(examples),
        prompts=len(prompts),
        pairs=len(prompts) or len(pairs),
        eval=len(evals),
        dev=_dev_prompts(project, training),
        prompt_tokens=fmean([len(prompt.text) for prompt in evals] or [0]) / CHARS_PER_TOKEN,
        answer_tokens=min(most, fmean(map(len, answers)) / CHARS_PER_TOKEN) if answers else most,
        completions=completions_per_prompt(config),
    )


def _dev_prompts(project: Project, training: int) -> int:
    """How many prompts the decision is measured on: those of a file, or some of the training's."""
    config = project.config
    if config.data.dev:
        return len(read_prompts(resolve(project.folder, config.data.dev)))
    return min(config.dev_prompts, training // _LARGEST_DEV_SHARE)
