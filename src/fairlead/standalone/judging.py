"""Opens the judge of a call and collects its scores, with the ledger and the limit on what is missing of a project."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from fairlead.config.base import Section
from fairlead.config.judges import judge_settings
from fairlead.config.loading.explain import explain
from fairlead.config.values.criteria import Criteria, JudgedCriterion
from fairlead.errors import ConfigError
from fairlead.evaluation.table import mean_of
from fairlead.judges.base import Judge
from fairlead.judges.build import by_criterion, check_keys, open_judge
from fairlead.judges.missing_verdicts import reason_missing, refuse_if_missing
from fairlead.progress import Progress, Silent, Task, TqdmBars
from fairlead.records import Answer, Score, ScoreState
from fairlead.standalone.inputs import GivenAnswer
from fairlead.standalone.results import CriterionScores, JudgedAnswers, ScoredAnswer

R = TypeVar("R")
JudgeLike = str | Mapping[str, Any] | Section | Judge
CriteriaLike = Sequence[str | Mapping[str, Any]] | Mapping[str, Any] | str

OVERALL = "judge_score"  # the row of a judge that is asked by its own criteria
MAX_MISSING = 0.1


class _Criteria(Section):
    criteria: Criteria


def read_criteria(criteria: CriteriaLike | None) -> list[JudgedCriterion]:
    """Criteria as they are written in Python or behind `--criterion`.

    Raises:
        ConfigError: naming each that is none.
    """
    data = {"criteria": [] if criteria is None else criteria}
    try:
        return _Criteria.model_validate(data).criteria
    except ValidationError as error:
        raise ConfigError(explain(error, data, _Criteria)) from error


@contextmanager
def opened(judge: JudgeLike, folder: Path) -> Iterator[Judge]:
    """The judge that a text or settings name, with the ledger of `folder`; a judge that is open already as it is.

    Raises:
        ConfigError: if it is no judge.
        JudgeError: if the key that it needs is not in the environment: found now, and not after a model has answered.
    """
    if hasattr(judge, "compare") and hasattr(judge, "score"):
        yield cast(Judge, judge)
        return
    settings = judge_settings(judge, folder)
    check_keys(settings)
    with open_judge(settings, folder) as judge_of_settings:
        yield judge_of_settings


def progress_of(progress: bool | Progress) -> Progress:
    """Where progress is shown: bars, nothing, or wherever the caller says."""
    if isinstance(progress, bool):
        return TqdmBars() if progress else Silent()
    return progress


def collect(judgements: Iterator[R], bar: Task) -> list[R]:
    """All judgements of a stream; whatever ends it early, calls under way come in and are stored first."""
    collected: list[R] = []
    try:
        for judgement in judgements:
            collected.append(judgement)
            bar.update(len(collected))
    finally:
        if isinstance(judgements, Generator):
            judgements.close()
    return collected


def judges_by_row(judge: Judge, criteria: Sequence[JudgedCriterion]) -> list[tuple[str, Judge]]:
    """The rows of the result, each with the judge that is asked for it: by each criterion, or by its own if none.

    Raises:
        ConfigError: if the judge cannot be told a criterion.
    """
    return [(criterion.name, by_criterion(judge, criterion)) for criterion in criteria] or [(OVERALL, judge)]


def score_all(
    answers: Sequence[GivenAnswer],
    judge: str,
    judges: Sequence[tuple[str, Judge]],
    *,
    max_missing: float,
    progress: Progress,
) -> JudgedAnswers:
    """The scores of all answers by every criterion.

    Args:
        judge: name of the judge, for the result.
        judges: as `judges_by_row` makes them.

    Raises:
        JudgeError: if more than `max_missing` of the scores that the judge was asked for are missing.
        BudgetError: if its budget is spent; what came in before is in the ledger.
    """
    return JudgedAnswers(judge, tuple(_scores(row, of_row, answers, max_missing, progress) for row, of_row in judges))


def _scores(
    name: str, judge: Judge, answers: Sequence[GivenAnswer], max_missing: float, progress: Progress
) -> CriterionScores:
    items = [Answer(answer.prompt, answer.text) for answer in answers if answer.text is not None]
    with progress.task("judge", "scores" if name == OVERALL else name, len(items)) as bar:
        scores = collect(judge.score(items), bar)
    counts, reason = Counter(score.state for score in scores), reason_missing(scores)
    refuse_if_missing(counts, limit=max_missing, key="max_missing", judge=judge.name, reason=reason)
    in_order = iter(scores)
    rows = tuple(_scored(name, answer, None if answer.text is None else next(in_order)) for answer in answers)
    present = [(row.score, row.prompt.cluster or row.prompt.id) for row in rows if row.score is not None]
    interval = mean_of([value for value, _ in present], [cluster for _, cluster in present], judged=True)
    return CriterionScores(name, interval, rows)


def _scored(criterion: str, answer: GivenAnswer, score: Score | None) -> ScoredAnswer:
    if score is None:
        return ScoredAnswer(answer.prompt, None, criterion, None, ScoreState.FAILED, "there is no answer")
    return ScoredAnswer(
        answer.prompt, answer.text, criterion, score.value, score.state, score.reason, score.calls, score.flags
    )
