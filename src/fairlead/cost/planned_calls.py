"""What a stage will ask its judge, computed before it runs, for `--estimate`."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fairlead.config.judges import JudgeSettings
from fairlead.config.project import Config
from fairlead.cost.judge_cost import CHARS_PER_TOKEN, Estimate, estimate
from fairlead.data.reading.readers import load_prompts, read_prompts
from fairlead.errors import ArtifactError, ConfigError
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

    Texts that do not exist yet are assumed to be as long as the config allows.
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
        estimates += _estimated(project, one_order(settings), comparisons)
    return estimates


def _estimated(project: Project, settings: JudgeSettings, items: Sequence[Comparison | Answer]) -> list[Estimate]:
    with open_judge(settings, project.folder) as judge:
        return estimate(judge, items)


def _pairs(project: Project) -> Sequence[Comparison | Answer]:
    config = project.config
    try:
        prompts = datasets.prompts(project.artifact("prepare").file("prompts.jsonl"))
        completions = datasets.completions(project.artifact("sample").file("completions.jsonl"))
        comparisons, _ = comparisons_for(prompts, completions, config.pairs.recipe)
    except ArtifactError:
        assert config.data.prompts is not None
        count = _completions(config)
        comparisons = [
            Comparison(prompt, *pair)
            for prompt in read_prompts(project.folder / config.data.prompts)
            for pair in itertools.combinations(_longest(count, config.sample.max_new_tokens), 2)
        ]
    return comparisons if config.pairs.judged_by == "comparisons" else answers_of(comparisons)


def _completions(config: Config) -> int:
    """The number of completions of one prompt, from all models and prompt variants."""
    sample = config.sample
    plain = len(sample.temperatures) * sample.per_temperature
    return plain * (1 + bool(sample.few_shot) + len(sample.models)) + bool(sample.constitution)


def _comparison(project: Project) -> Sequence[Comparison | Answer]:
    config = project.config
    prompts, texts_by_model = _held_out(project)
    items: list[Comparison | Answer] = []
    for pair in map(ModelPair.parse, config.eval.pairwise):
        both = zip(prompts, texts_by_model[pair.candidate], texts_by_model[pair.reference], strict=True)
        items += [Comparison(prompt, first, second) for prompt, first, second in both if first != second]
    return items + (_answers(prompts, texts_by_model) if config.eval.scores else [])


def _by_criteria(project: Project, settings: JudgeSettings) -> list[Estimate]:
    """What the judge would be asked for the scores of each criterion."""
    criteria = project.config.eval.criteria
    if not criteria:
        return []
    answers = _answers(*_held_out(project))
    with open_judge(settings, project.folder) as judge:
        return [part for criterion in criteria for part in estimate(by_criterion(judge, criterion), answers)]


def _answers(prompts: Sequence[Prompt], texts_by_model: Mapping[str, Sequence[str]]) -> list[Answer]:
    return [Answer(p, text) for texts in texts_by_model.values() for p, text in zip(prompts, texts, strict=True)]


def _held_out(project: Project) -> tuple[list[Prompt], dict[str, list[str]]]:
    """The held-out prompts and every model's answers to them, in the same order."""
    config = project.config
    try:
        prompts = datasets.prompts(project.artifact("prepare").file("eval.jsonl"))
        answers: dict[str, dict[str, Completion]] = {}
        for answer in datasets.completions(project.artifact("answers").file("answers.jsonl")):
            answers.setdefault(answer.model, {})[answer.prompt_id] = answer
        return prompts, {model: [of[prompt.id].text for prompt in prompts] for model, of in answers.items()}
    except ArtifactError:
        prompts = load_prompts(project.folder / config.data.eval, with_source=config.eval.needs_source).rows
        models = ["base", "dpo"] if config.sft is None else ["base", "sft", "dpo"]
        texts = _longest(len(models), config.answers.max_new_tokens)
        return prompts, {model: [text] * len(prompts) for model, text in zip(models, texts, strict=True)}


def _longest(count: int, tokens: int) -> list[str]:
    """Distinct texts of the greatest allowed length."""
    return [f"{number} ".ljust(tokens * CHARS_PER_TOKEN, "x") for number in range(count)]
