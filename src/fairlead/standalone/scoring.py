"""A judge's scores of answers that exist already. Imports no model, so that the command line starts at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fairlead.progress import Progress
from fairlead.standalone.inputs import answers_from
from fairlead.standalone.judging import (
    MAX_MISSING,
    CriteriaLike,
    JudgeLike,
    judges_by_row,
    opened,
    progress_of,
    read_criteria,
    score_all,
)
from fairlead.standalone.results import JudgedAnswers


def score_answers(
    rows: Any,
    judge: JudgeLike,
    *,
    criteria: CriteriaLike | None = None,
    max_missing: float = MAX_MISSING,
    folder: Path | str = ".",
    progress: bool | Progress = True,
) -> JudgedAnswers:
    """Lets a judge score answers from 1 to 10 that exist already.

    Args:
        rows: rows {prompt, answer, gold?, cluster?, source?}, or a file of such rows; an answer of None is missing.
        judge, criteria, max_missing, folder, progress: as in `evaluate_alignment`.

    Raises:
        FairleadError: with what is wrong and what would be right.
    """
    bars, judged_criteria = progress_of(progress), read_criteria(criteria)
    answers = answers_from(rows, sourced=any(criterion.source for criterion in judged_criteria))
    with opened(judge, Path(folder)) as open_judge:
        judges = judges_by_row(open_judge, judged_criteria)
        return score_all(answers, open_judge.name, judges, max_missing=max_missing, progress=bars)
