"""What a stage will ask its judge, computed before it runs, for `--estimate`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from fairlead.config.judges import JudgeSettings
from fairlead.config.project import Config
from fairlead.cost.judge_cost import CHARS_PER_TOKEN, Estimate, estimate
from fairlead.data.reading.readers import load_prompts, read_examples, read_prompts
from fairlead.errors import ArtifactError, ConfigError
from fairlead.judges.base import Judge
from fairlead.judges.build import by_criterion, open_judge
from fairlead.judges.from_scores import answers_of
from fairlead.judges.qualification.agreement import both_ways
from fairlead.judges.qualification.human_labels import read_labelled
from fairlead.judges.qualification.qualify import families_of, one_order, planned
from fairlead.judges.qualification.stage import judges_of
from fairlead.pipeline import datasets
from fairlead.pipeline.project import Project
from fairlead.pipeline.stage import resolve
from fairlead.preferences.pairing import comparisons_for
from fairlead.records import Answer, Comparison, Completion, ModelPair, Prompt

Texts = Mapping[str, Sequence[str]]  # of the held-out prompts, in their order, by model
_MOST_PROMPTS = 50  # written out where the texts do not exist yet; the estimate is scaled


@dataclass(frozen=True)
class StageEstimate:
    """What the judges of one stage would be asked."""

    stage: str
    judges: list[Estimate]


def estimate_stages(project: Project, stage: str | None) -> list[StageEstimate]:
    """What the judge of a stage would be asked and what it would cost, preceded by the check of the judges.

    Args:
        stage: judge (the pairs) or eval (the comparison); None takes both, as a whole run does.

    Raises:
        ConfigError: if the project has no such stage, or the stage has no judge.
    """
    config, known = project.config, {node.name for node in project.stages}
    judges = {"judge": config.judge, "eval": config.eval_judge}
    asking = [name for name, settings in judges.items() if settings is not None and name in known]
    if stage is not None and stage not in asking:
        raise ConfigError(f"the stage {stage} asks no judge", where=str(project.folder))
    check = [StageEstimate("judge_check", _check(project))] if "judge_check" in known else []
    return check + [StageEstimate(name, estimate_stage(project, name)) for name in asking if stage in (None, name)]


def estimate_stage(project: Project, stage: str) -> list[Estimate]:
    """What the judge of one stage (judge or eval) would be asked.

    Texts that do not exist yet are assumed to be as long as the SFT answers, and at most as the config allows.
    """
    settings = project.config.judge if stage == "judge" else project.config.eval_judge
    assert settings is not None
    if stage == "judge":
        return _estimated(project, settings, _pairs(project))
    return _estimated(project, settings, _comparison(project)) + _by_criteria(project, settings)


def _check(project: Project) -> list[Estimate]:
    config = project.config
    assert config.judge_check is not None
    rows = read_labelled(resolve(project.folder, config.judge_check.labelled))
    estimates: list[Estimate] = []
    for settings in judges_of(config.judge, config.eval_judge).values():
        plan = planned(rows, config.judge_check, families_of(settings))
        comparisons = both_ways(row for part in plan.values() for row in part)
        estimates += _estimated(project, one_order(settings), _Questions(list(comparisons)))
    return estimates


@dataclass(frozen=True)
class _Questions:
    """What a judge will be asked about.

    Attributes:
        items: the texts, or, where they do not exist yet, texts of the usual length.
        longest: texts that do not exist yet, as long as the config allows; None where the items exist.
        factor: how many times as many there are: of texts that do not exist yet only some are written out.
    """

    items: Sequence[Comparison | Answer]
    longest: Sequence[Comparison | Answer] | None = None
    factor: float = 1.0


def _estimated(project: Project, settings: JudgeSettings, questions: _Questions) -> list[Estimate]:
    with open_judge(settings, project.folder) as judge:
        return _of_judge(judge, questions)


def _of_judge(judge: Judge, questions: _Questions) -> list[Estimate]:
    expected = estimate(judge, questions.items)
    if questions.longest is None:
        return expected
    bounds = estimate(judge, questions.longest)
    joined = zip(expected, bounds, strict=True)
    return [replace(usual, most_cost=bound.most_cost).times(questions.factor) for usual, bound in joined]


def _pairs(project: Project) -> _Questions:
    config = project.config
    by_scores = config.pairs.judged_by != "comparisons"
    try:
        prompts = datasets.prompts(project.artifact("prepare").file("prompts.jsonl"))
        completions = datasets.completions(project.artifact("sample").file("completions.jsonl"))
        comparisons, _ = comparisons_for(prompts, completions, config.pairs.recipe)
        return _Questions(answers_of(comparisons) if by_scores else comparisons)
    except ArtifactError:
        assert config.data.prompts is not None
        some, factor = _some(read_prompts(resolve(project.folder, config.data.prompts)))

    def comparisons_of(tokens: int) -> Sequence[Comparison | Answer]:
        made = [
            Comparison(prompt, *pair)
            for prompt in some
            for pair in itertools.combinations(_texts(completions_per_prompt(config), tokens), 2)
        ]
        return answers_of(made) if by_scores else made

    most = config.sample.max_new_tokens
    return _Questions(comparisons_of(_usual_tokens(project, most)), comparisons_of(most), factor)


def completions_per_prompt(config: Config) -> int:
    """The number of completions of one prompt, from all models and prompt variants."""
    sample = config.sample
    plain = len(sample.temperatures) * sample.per_temperature
    return plain * (1 + bool(sample.few_shot) + len(sample.models)) + bool(sample.constitution)


def _comparison(project: Project) -> _Questions:
    return _of_answers(project, lambda prompts, texts: _compared(project.config, prompts, texts))


def _by_criteria(project: Project, settings: JudgeSettings) -> list[Estimate]:
    """What the judge would be asked for the scores of each criterion."""
    criteria = project.config.eval.criteria
    if not criteria:
        return []
    questions = _of_answers(project, _answers)
    with open_judge(settings, project.folder) as judge:
        return [part for criterion in criteria for part in _of_judge(by_criterion(judge, criterion), questions)]


def _compared(config: Config, prompts: Sequence[Prompt], texts_by_model: Texts) -> Sequence[Comparison | Answer]:
    items: list[Comparison | Answer] = []
    for pair in map(ModelPair.parse, config.eval.pairwise):
        both = zip(prompts, texts_by_model[pair.candidate], texts_by_model[pair.reference], strict=True)
        items += [Comparison(prompt, first, second) for prompt, first, second in both if first != second]
    return [*items, *(_answers(prompts, texts_by_model) if config.eval.scores else [])]


def _answers(prompts: Sequence[Prompt], texts_by_model: Texts) -> Sequence[Comparison | Answer]:
    return [Answer(p, text) for texts in texts_by_model.values() for p, text in zip(prompts, texts, strict=True)]


def _of_answers(
    project: Project, items_of: Callable[[Sequence[Prompt], Texts], Sequence[Comparison | Answer]]
) -> _Questions:
    """What is asked about the answers to the held-out prompts."""
    config = project.config
    try:
        return _Questions(items_of(*_held_out(project)))
    except ArtifactError:
        path = resolve(project.folder, config.data.eval)
        prompts, factor = _some(load_prompts(path, with_source=config.eval.needs_source).rows)
    models = ["base", "dpo"] if config.sft is None else ["base", "sft", "dpo"]

    def items_of_length(tokens: int) -> Sequence[Comparison | Answer]:
        texts = zip(models, _texts(len(models), tokens), strict=True)
        return items_of(prompts, {model: [text] * len(prompts) for model, text in texts})

    most = config.answers.max_new_tokens
    return _Questions(items_of_length(_usual_tokens(project, most)), items_of_length(most), factor)


def _held_out(project: Project) -> tuple[list[Prompt], dict[str, list[str]]]:
    """The held-out prompts and every model's answers to them, in the same order.

    Raises:
        ArtifactError: if they do not exist yet.
    """
    prompts = datasets.prompts(project.artifact("prepare").file("eval.jsonl"))
    answers: dict[str, dict[str, Completion]] = {}
    for answer in datasets.completions(project.artifact("answers").file("answers.jsonl")):
        answers.setdefault(answer.model, {})[answer.prompt_id] = answer
    return prompts, {model: [of[prompt.id].text for prompt in prompts] for model, of in answers.items()}


def _some(prompts: Sequence[Prompt]) -> tuple[Sequence[Prompt], float]:
    """Evenly spread prompts, and how many each of them stands for."""
    step = max(1, len(prompts) // _MOST_PROMPTS)
    some = prompts[::step]
    return some, len(prompts) / max(1, len(some))


def _usual_tokens(project: Project, most: int) -> int:
    """The expected length of an answer that does not exist yet: that of the SFT answers, if there are any."""
    name = project.config.data.sft
    if name is None:
        return most
    answers = [example.answer for example in read_examples(resolve(project.folder, name))]
    mean = sum(map(len, answers)) / max(1, len(answers)) / CHARS_PER_TOKEN
    return min(most, max(1, round(mean)))


def _texts(count: int, tokens: int) -> list[str]:
    """Distinct texts of a length."""
    return [f"{number} ".ljust(tokens * CHARS_PER_TOKEN, "x") for number in range(count)]
