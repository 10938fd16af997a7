"""What the decision asks models behind endpoints, and the judge where a target is on its score, at most.

Which candidates are tried depends on the answers so far, so all are counted, with the longest of the instructions. What
the ledger has already is not taken off, because it is not known beforehand which prompts will be asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from fairlead.config.decide import DecideSection
from fairlead.config.values.asked_models import EndpointModel
from fairlead.cost.asked_models import Asked, estimate_model, mean_chars
from fairlead.cost.judge_cost import CHARS_PER_TOKEN, REPLY_TOKENS, Estimate
from fairlead.cost.questions import Questions, estimated, some_of, texts_of_length, usual_tokens
from fairlead.data.leaks import most_dev_prompts
from fairlead.data.reading.readers import read_examples, read_preferences, read_prompts
from fairlead.decide.candidates import (
    INSTRUCTION_TOKENS,
    listed_instructions,
    passage_kinds,
    shot_kinds,
    split_dev,
)
from fairlead.decide.targets import asks_for_scores
from fairlead.errors import ArtifactError
from fairlead.pipeline import datasets
from fairlead.pipeline.project import Project
from fairlead.pipeline.stage import resolve
from fairlead.records import Answer, Example, Preference, Prompt

AT_MOST = ", if every candidate is tried"
_CHARS_PER_WORD = 7  # of a passage, with the space


def estimate_decision(project: Project) -> list[Estimate]:
    """What each model of `decide` behind an endpoint would be asked, then the judge; nothing where it is waived."""
    section = project.config.decide
    if section.waive is not None:
        return []
    optimizer = section.instruction_optimizer
    scored, tuning = split_dev(dev_prompts(project), optimizing=optimizer is not None)
    examples = _examples(project)
    asked = _candidates(section, examples, scored)
    most = project.config.answers.max_new_tokens
    usual = usual_tokens(project, most)
    estimates = [
        estimate_model(project, m, asked, usual, most, basis=AT_MOST)
        for m in section.models
        if isinstance(m, EndpointModel)
    ]
    if optimizer is not None and tuning and isinstance(optimizer.model, EndpointModel):
        requests = optimizer.rounds * optimizer.per_round
        shown = optimizer.failures * (mean_chars(tuning) + usual * CHARS_PER_TOKEN)
        writing = Asked(requests, requests * (shown + _instruction_chars(section)))
        estimates.append(
            estimate_model(project, optimizer.model, writing, REPLY_TOKENS, INSTRUCTION_TOKENS, basis=AT_MOST)
        )
    count = candidate_count(section, examples=bool(examples))
    return estimates + _scores(project, count, scored, tuning)


def candidate_count(section: DecideSection, *, examples: bool = True) -> int:
    """How many candidates one model has, at most.

    Args:
        examples: whether there are rows to take examples from.
    """
    shots, passages = len(shot_kinds(section)) if examples else 0, len(passage_kinds(section))
    return _instruction_count(section) + shots + passages + bool(shots and passages)


def dev_prompts(project: Project) -> Sequence[Prompt]:
    """The prompts of the decision; where they are not drawn yet, as many of the rows that they are drawn from."""
    config = project.config
    try:
        return datasets.prompts(project.artifact("prepare").file("dev.jsonl"))
    except ArtifactError:
        if config.data.dev:
            return read_prompts(resolve(project.folder, config.data.dev))
    training = _training_prompts(project)
    return training[: most_dev_prompts(len(training), config.dev_prompts)]


def _training_prompts(project: Project) -> list[Prompt]:
    data, folder = project.config.data, project.folder
    if data.prompts:
        return read_prompts(resolve(folder, data.prompts))
    return [example.prompt for example in _examples(project)]


def _examples(project: Project) -> list[Example]:
    """The SFT rows, or, without any, the chosen answers of ready pairs."""
    name = project.config.data.sft
    if name:
        return read_examples(resolve(project.folder, name))
    return [Example(pair.prompt, pair.chosen) for pair in ready_pairs(project)]


def ready_pairs(project: Project) -> list[Preference]:
    """The pairs of `data.preferences`; none of a data set of the hub, which an estimate does not load."""
    data, folder = project.config.data, project.folder
    if data.preferences is None or not resolve(folder, data.preferences).exists():
        return []
    read = read_preferences(data.preferences, folder, split=data.preferences_split, format=data.preferences_format)
    return read.preferences


def _candidates(section: DecideSection, examples: Sequence[Example], scored: Sequence[Prompt]) -> Asked:
    """What every candidate of one model is asked."""
    shots, passages = [k for _, k in shot_kinds(section)] if examples else [], [k for _, k in passage_kinds(section)]
    shot_chars = mean_chars([e.prompt for e in examples]) + fmean([len(e.answer) for e in examples] or [0])
    passage_chars = section.retrieval.chunk_words * _CHARS_PER_WORD if section.retrieval is not None else 0
    best, count = _instruction_chars(section), candidate_count(section, examples=bool(examples))
    added = [len(instruction.text or "") for instruction in listed_instructions(section)]
    added += [best] * (_instruction_count(section) - len(added))
    added += [round(best + k * shot_chars) for k in shots] + [best + k * passage_chars for k in passages]
    if shots and passages:
        added.append(round(best + max(shots) * shot_chars + max(passages) * passage_chars))
    return Asked(count * len(scored), len(scored) * (count * mean_chars(scored) + sum(added)))


def _instruction_count(section: DecideSection) -> int:
    """Instructions with those that a model may write, and the prompt as given."""
    optimizer = section.instruction_optimizer
    written = optimizer.rounds * optimizer.per_round if optimizer is not None else 0
    return len(listed_instructions(section)) + written


def _instruction_chars(section: DecideSection) -> int:
    """Of the longest instruction; one that is not written yet is as long as a usual reply."""
    written = [REPLY_TOKENS * CHARS_PER_TOKEN] if section.instruction_optimizer is not None else []
    return max([len(instruction.text or "") for instruction in listed_instructions(section)] + written)


def _scores(project: Project, count: int, scored: Sequence[Prompt], tuning: Sequence[Prompt]) -> list[Estimate]:
    """What the judge is asked about the answers of every candidate on every model.

    Args:
        count: candidates of one model.
    """
    config, judge = project.config, project.config.eval_judge
    if judge is None or not asks_for_scores(config):
        return []
    answers = count * (1 + len(config.decide.models)) * len(scored) + _instruction_count(config.decide) * len(tuning)
    prompts, _ = some_of(scored)
    most = config.answers.max_new_tokens

    def answers_of(tokens: int) -> list[Answer]:
        [text] = texts_of_length(1, tokens)
        return [Answer(prompt, text) for prompt in prompts]

    factor = answers / max(1, len(prompts))
    return estimated(project, judge, Questions(answers_of(usual_tokens(project, most)), answers_of(most), factor))
