"""What a stage will ask its judge and other models, computed before it runs, for `--estimate`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from fairlead.config.judges import JudgeSettings
from fairlead.config.project import Config
from fairlead.cost.asked_models import estimate_arms
from fairlead.cost.decision_cost import estimate_decision
from fairlead.cost.judge_cost import Estimate
from fairlead.cost.questions import Questions, estimated, of_judge, some_of, texts_of_length, usual_tokens
from fairlead.data.reading.readers import load_prompts, read_prompts
from fairlead.errors import ArtifactError, ConfigError
from fairlead.judges.build import by_criterion, open_judge
from fairlead.judges.from_scores import answers_of
from fairlead.judges.qualification.agreement import both_ways
from fairlead.judges.qualification.human_labels import read_labelled
from fairlead.judges.qualification.qualify import families_of, one_order, planned
from fairlead.judges.qualification.stage import judges_of
from fairlead.pipeline import datasets
from fairlead.pipeline.outputs import answered_prompts
from fairlead.pipeline.project import Project
from fairlead.pipeline.stage import resolve
from fairlead.preferences.pairing import comparisons_for
from fairlead.records import Answer, Comparison, ModelPair, Prompt

Texts = Mapping[str, Sequence[str]]  # of the held-out prompts, in their order, by model


@dataclass(frozen=True)
class StageEstimate:
    """What the judges, and the models of the decision, would be asked in one stage."""

    stage: str
    judges: list[Estimate]


def estimate_stages(project: Project, stage: str | None) -> list[StageEstimate]:
    """What the judge of a stage would be asked and what it would cost, preceded by the check of the judges.

    Args:
        stage: judge (the pairs) or eval (the comparison); None takes both.

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


def estimate_run(project: Project, stages: Collection[str]) -> list[StageEstimate]:
    """What a whole run would ask: the models of the decision, those of the comparison, then the judges.

    Args:
        stages: those that are still to run. The decision is left out where it is none of them.
    """
    decision = estimate_decision(project) if "decide" in stages else []
    arms = estimate_arms(project) if "arms" in stages else []
    asked = [StageEstimate(name, rows) for name, rows in (("decide", decision), ("arms", arms)) if rows]
    return [*asked, *estimate_stages(project, None)]


def estimate_stage(project: Project, stage: str) -> list[Estimate]:
    """What the judge of one stage (judge or eval) would be asked.

    Texts that do not exist yet are assumed to be as long as the SFT answers, and at most as the config allows.
    """
    settings = project.config.judge if stage == "judge" else project.config.eval_judge
    assert settings is not None
    if stage == "judge":
        return estimated(project, settings, _pairs(project))
    return estimated(project, settings, _comparison(project)) + _by_criteria(project, settings)


def _check(project: Project) -> list[Estimate]:
    config = project.config
    assert config.judge_check is not None
    rows = read_labelled(resolve(project.folder, config.judge_check.labelled))
    estimates: list[Estimate] = []
    for settings in judges_of(config.judge, config.eval_judge).values():
        plan = planned(rows, config.judge_check, families_of(settings))
        comparisons = both_ways(row for part in plan.values() for row in part)
        estimates += estimated(project, one_order(settings), Questions(list(comparisons)))
    return estimates


def _pairs(project: Project) -> Questions:
    config = project.config
    by_scores = config.pairs.judged_by != "comparisons"
    try:
        prompts = datasets.prompts(project.artifact("prepare").file("prompts.jsonl"))
        completions = datasets.completions(project.artifact("sample").file("completions.jsonl"))
        comparisons, _ = comparisons_for(prompts, completions, config.pairs.recipe)
        return Questions(answers_of(comparisons) if by_scores else comparisons)
    except ArtifactError:
        assert config.data.prompts is not None
        some, factor = some_of(read_prompts(resolve(project.folder, config.data.prompts)))

    def comparisons_of(tokens: int) -> Sequence[Comparison | Answer]:
        made = [
            Comparison(prompt, *pair)
            for prompt in some
            for pair in itertools.combinations(texts_of_length(completions_per_prompt(config), tokens), 2)
        ]
        return answers_of(made) if by_scores else made

    most = config.sample.max_new_tokens
    return Questions(comparisons_of(usual_tokens(project, most)), comparisons_of(most), factor)


def completions_per_prompt(config: Config) -> int:
    """The number of completions of one prompt, from all models and prompt variants."""
    sample = config.sample
    plain = len(sample.temperatures) * sample.per_temperature
    return plain * (1 + bool(sample.few_shot) + len(sample.models)) + bool(sample.constitution)


def _comparison(project: Project) -> Questions:
    return _of_answers(project, lambda prompts, texts: _compared(project.config, prompts, texts))


def _by_criteria(project: Project, settings: JudgeSettings) -> list[Estimate]:
    """What the judge would be asked for the scores of each criterion."""
    criteria = project.config.eval.criteria
    if not criteria:
        return []
    questions = _of_answers(project, _answers)
    with open_judge(settings, project.folder) as judge:
        return [part for criterion in criteria for part in of_judge(by_criterion(judge, criterion), questions)]


def _compared(config: Config, prompts: Sequence[Prompt], texts_by_model: Texts) -> Sequence[Comparison | Answer]:
    items: list[Comparison | Answer] = []
    for pair in map(ModelPair.parse, config.judged_pairs):
        both = zip(prompts, texts_by_model[pair.candidate], texts_by_model[pair.reference], strict=True)
        items += [Comparison(prompt, first, second) for prompt, first, second in both if first != second]
    return [*items, *(_answers(prompts, texts_by_model) if config.eval.scores else [])]


def _answers(prompts: Sequence[Prompt], texts_by_model: Texts) -> Sequence[Comparison | Answer]:
    return [Answer(p, text) for texts in texts_by_model.values() for p, text in zip(prompts, texts, strict=True)]


def _of_answers(
    project: Project, items_of: Callable[[Sequence[Prompt], Texts], Sequence[Comparison | Answer]]
) -> Questions:
    """What is asked about the answers to the held-out prompts."""
    config = project.config
    try:
        return Questions(items_of(*_held_out(project)))
    except ArtifactError:
        path = resolve(project.folder, config.data.eval)
        prompts, factor = some_of(load_prompts(path, with_source=config.eval.needs_source).rows)
        factor *= config.answers.per_prompt
    models = [*(["base", "dpo"] if config.sft is None else ["base", "sft", "dpo"]), *config.arm_names]

    def items_of_length(tokens: int) -> Sequence[Comparison | Answer]:
        texts = zip(models, texts_of_length(len(models), tokens), strict=True)
        return items_of(prompts, {model: [text] * len(prompts) for model, text in texts})

    most = config.answers.max_new_tokens
    return Questions(items_of_length(usual_tokens(project, most)), items_of_length(most), factor)


def _held_out(project: Project) -> tuple[list[Prompt], dict[str, list[str]]]:
    """The held-out prompts and every model's answers to them, in the same order.

    Raises:
        ArtifactError: if they do not exist yet.
    """
    answers = project.answers()
    prompts = answered_prompts(datasets.prompts(project.artifact("prepare").file("eval.jsonl")), answers)
    return prompts, {arm: [answer.text for answer in of_arm] for arm, of_arm in answers.items()}
