"""What a judge will be asked about: texts that exist, or texts of the usual length in their place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fairlead.config.judges import JudgeSettings
from fairlead.cost.judge_cost import CHARS_PER_TOKEN, Estimate, estimate
from fairlead.data.reading.readers import read_examples
from fairlead.judges.base import Judge
from fairlead.judges.build import open_judge
from fairlead.pipeline.project import Project
from fairlead.pipeline.stage import resolve
from fairlead.records import Answer, Comparison, Prompt

_MOST_PROMPTS = 50  # written out where the texts do not exist yet; the estimate is scaled


@dataclass(frozen=True)
class Questions:
    """What a judge will be asked about.

    Attributes:
        items: the texts, or, where they do not exist yet, texts of the usual length.
        longest: texts that do not exist yet, as long as the config allows; None where the items exist.
        factor: how many times as many there are: of texts that do not exist yet only some are written out.
    """

    items: Sequence[Comparison | Answer]
    longest: Sequence[Comparison | Answer] | None = None
    factor: float = 1.0


def estimated(project: Project, settings: JudgeSettings, questions: Questions) -> list[Estimate]:
    with open_judge(settings, project.folder) as judge:
        return of_judge(judge, questions)


def of_judge(judge: Judge, questions: Questions) -> list[Estimate]:
    expected = estimate(judge, questions.items)
    if questions.longest is None:
        return expected
    bounds = estimate(judge, questions.longest)
    joined = zip(expected, bounds, strict=True)
    return [replace(usual, most_cost=bound.most_cost).times(questions.factor) for usual, bound in joined]


def some_of(prompts: Sequence[Prompt]) -> tuple[Sequence[Prompt], float]:
    """Evenly spread prompts, and how many each of them stands for."""
    step = max(1, len(prompts) // _MOST_PROMPTS)
    some = prompts[::step]
    return some, len(prompts) / max(1, len(some))


def usual_tokens(project: Project, most: int) -> int:
    """The expected length of an answer that does not exist yet: that of the SFT answers, if there are any."""
    name = project.config.data.sft
    if name is None:
        return most
    answers = [example.answer for example in read_examples(resolve(project.folder, name))]
    mean = sum(map(len, answers)) / max(1, len(answers)) / CHARS_PER_TOKEN
    return min(most, max(1, round(mean)))


def texts_of_length(count: int, tokens: int) -> list[str]:
    """Distinct texts of a length."""
    return [f"{number} ".ljust(tokens * CHARS_PER_TOKEN, "x") for number in range(count)]
