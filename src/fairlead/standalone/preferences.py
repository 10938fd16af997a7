"""Preference pairs from prompts, a model and a judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fairlead.config.base import Section
from fairlead.config.loading.explain import explain
from fairlead.config.sampling import JudgedBy, PairsSection, Recipe, SampleSection
from fairlead.errors import ConfigError, DataError
from fairlead.judges.base import Judge
from fairlead.judges.from_scores import compare_by_scores
from fairlead.judges.missing_verdicts import reason_missing, refuse_if_missing
from fairlead.models.generation import CompletionRequest
from fairlead.preferences.drawing import completions_of, count_of
from fairlead.preferences.pairing import comparisons_for, preferences_from
from fairlead.preferences.prompt_variants import read_constitution
from fairlead.progress import Progress, adding
from fairlead.records import Comparison, Completion, Example, Prompt, Verdict
from fairlead.standalone.answering import Answerer, name_of, open_answerer
from fairlead.standalone.inputs import examples_from, prompts_from
from fairlead.standalone.judging import MAX_MISSING, JudgeLike, collect, opened, progress_of
from fairlead.standalone.results import PreferenceSet


class _Pieces(Section):
    sample: SampleSection
    pairs: PairsSection


def build_preferences(
    prompts: Any,
    model: Any,
    judge: JudgeLike,
    *,
    tokenizer: Any = None,
    system: str | None = None,
    temperatures: Sequence[float] = (0.7, 1.2),
    per_temperature: int = 1,
    top_p: float = 1.0,
    max_new_tokens: int = 256,
    few_shot: int = 0,
    examples: Any = (),
    constitution: Path | str | Sequence[str] | None = None,
    recipe: Recipe = "best_worst",
    judged_by: JudgedBy = "comparisons",
    margin: float = 0.0,
    batch_size: int = 32,
    seed: int = 0,
    max_missing: float = MAX_MISSING,
    folder: Path | str = ".",
    progress: bool | Progress = True,
) -> PreferenceSet:
    """Draws completions of each prompt, lets a judge compare them, and makes pairs of what it prefers.

    Args:
        prompts: texts, rows {prompt, gold?, cluster?}, or a file of such rows.
        model: as in `evaluate_alignment`; a function with an argument `temperature` is given it.
        judge: as in `evaluate_alignment`; asked in both orders, unless its settings say otherwise.
        temperatures, per_temperature: the plain completions of each prompt.
        few_shot: also draw completions after so many of `examples`, rows {prompt, answer} or a file of them.
        constitution: a YAML file of principles, or the principles: the model also criticises its first completion by
            one of them and revises it.
        recipe: best_worst, all, or revision (a revision that the judge prefers, against what it revises).
        judged_by: comparisons, or scores (one question per completion; every pair has a margin).
        margin: a pair is kept when the winner is better by more than this.
        max_missing: share of the verdicts that may be missing.
        folder, progress: as in `evaluate_alignment`.

    Raises:
        FairleadError: with what is wrong and what would be right.
    """
    sections = _sections(
        {
            "temperatures": list(temperatures), "per_temperature": per_temperature, "top_p": top_p,
            "max_new_tokens": max_new_tokens, "few_shot": few_shot, "batch_size": batch_size,
            "constitution": None if constitution is None else "given",
        },
        {"recipe": recipe, "judged_by": judged_by, "margin": margin, "max_missing": max_missing},
    )  # fmt: skip
    bars, asked = progress_of(progress), prompts_from(prompts, system=system)
    shots, principles = _shots(few_shot, examples), _principles(constitution)
    with opened(judge, Path(folder)) as open_judge:
        with (
            bars.task("sample", "completions", count_of(len(asked), sections.sample)) as bar,
            open_answerer(model, tokenizer, batch_size=batch_size, seed=seed, advance=adding(bar)) as answer,
        ):
            completions = completions_of(
                asked,
                sections.sample,
                name_of(model),
                _every_answer(answer),
                seed=seed,
                examples=shots,
                principles=principles,
            )
        return _judged(asked, completions, open_judge, sections.pairs, bars)


def _sections(sample: dict[str, Any], pairs: dict[str, Any]) -> _Pieces:
    """The arguments as the sections of a project, which check them."""
    data = {"sample": sample, "pairs": pairs}
    try:
        sections = _Pieces.model_validate(data)
    except ValidationError as error:
        raise ConfigError(explain(error, data, _Pieces), where="build_preferences") from error
    if sections.pairs.recipe == "models":
        raise ConfigError("recipe models needs several models", remedy="use a project with sample.models")
    if sections.pairs.recipe == "revision" and sections.sample.constitution is None:
        raise ConfigError("recipe revision needs constitution", remedy="give principles, or another recipe")
    return sections


def _shots(few_shot: int, examples: Any) -> list[Example]:
    shots = examples_from(examples) if few_shot else []
    if few_shot and not shots:
        raise DataError("few_shot needs examples", where="examples", remedy='give rows {"prompt": …, "answer": …}')
    return shots


def _principles(constitution: Path | str | Sequence[str] | None) -> list[str]:
    if constitution is None:
        return []
    if isinstance(constitution, str | Path):
        return read_constitution(Path(constitution))
    principles = list(constitution)
    if not principles or not all(isinstance(principle, str) and principle.strip() for principle in principles):
        remedy = 'give a list of texts, such as ["The answer is polite."], or a YAML file of them'
        raise DataError("holds no list of principles", where="constitution", remedy=remedy)
    return principles


def _every_answer(answer: Answerer) -> Callable[[Sequence[CompletionRequest]], list[Completion]]:
    """The answerer, which here has to answer every request: a critique needs what it criticises."""

    def draw(requests: Sequence[CompletionRequest]) -> list[Completion]:
        completions = []
        for request, completion in zip(requests, answer(requests), strict=True):
            if completion is None:
                where = f"model, prompt {request.prompt.text[:60]!r}"
                raise DataError("gave no answer", where=where, remedy="leave this prompt out")
            completions.append(completion)
        return completions

    return draw


def _judged(
    prompts: Sequence[Prompt],
    completions: Sequence[Completion],
    judge: Judge,
    section: PairsSection,
    progress: Progress,
) -> PreferenceSet:
    comparisons, _ = comparisons_for(prompts, completions, section.recipe)
    verdicts = _verdicts(comparisons, judge, section.judged_by, progress)
    counts = Counter(verdict.state for verdict in verdicts)
    reason = reason_missing(verdicts)
    refuse_if_missing(counts, limit=section.max_missing, key="max_missing", judge=judge.name, reason=reason)
    pairs, outcomes = preferences_from(prompts, completions, verdicts, recipe=section.recipe, margin=section.margin)
    return PreferenceSet(judge.name, tuple(pairs), dict(outcomes), tuple(completions), tuple(verdicts))


def _verdicts(
    comparisons: Sequence[Comparison], judge: Judge, judged_by: JudgedBy, progress: Progress
) -> list[Verdict]:
    with progress.task("judge", "verdicts", len(comparisons)) as bar:
        by_scores = judged_by == "scores"
        return collect(compare_by_scores(judge, comparisons) if by_scores else judge.compare(comparisons), bar)
