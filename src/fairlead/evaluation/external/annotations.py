"""Verdicts from elsewhere, in AlpacaEval's form or as plain JSONL, and the figures that follow from them.

The figures named as AlpacaEval names them are AlpacaEval's, to the last digit; ours stand beside them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fairlead.data.reading.fields import quoted
from fairlead.data.reading.rows import FileRow, read_rows
from fairlead.documents.imported import AnnotationFigures, PercentInterval
from fairlead.errors import DataError, some
from fairlead.evaluation.caveats import answer_caveats, answer_figures, length_doubt
from fairlead.evaluation.external.answers import check_format, name_field, text_field
from fairlead.records import Interval, VerdictState
from fairlead.statistics.intervals import missing_bounds
from fairlead.statistics.tests import sign_test
from fairlead.statistics.win_rate import length_adjusted_win_rate, win_rate

_SEED = 0


@dataclass(frozen=True, slots=True)
class Annotation:
    """A judge's verdict on the answer of a model and that of its baseline to one prompt.

    Attributes:
        outcome: 1 the model's answer is better, 0.5 tie, 0 the baseline's; between them a judge's probability;
            None where there is no verdict.
        missing: why there is none, "" where there is one.
        cluster: source or topic of the prompt, "" where the file gives none.
        where: file and row, for errors.
    """

    prompt: str
    answer: str
    baseline_answer: str
    outcome: float | None
    missing: str
    model: str
    baseline: str
    judge: str
    cluster: str
    where: str


def read_annotations(path: Path, format: str) -> list[Annotation]:
    """Verdicts of a file; DataError with the line where a row cannot be used.

    alpaca_eval: `instruction`, `output_1` (the baseline's answer), `output_2` (the model's), `preference` in
    [1, 2]; `generator_1`, `generator_2` and `annotator` are optional. A preference of 0 is a draw, as AlpacaEval 1
    wrote it; one that is null, absent, NaN or outside [1, 2] is a missing verdict.

    jsonl: `prompt`, `first` (the model's answer), `second` (the baseline's), `verdict`: win (the first is
    better), loss, tie, inconsistent (counts as a tie), a number in [0, 1] (the judge's probability that the first is
    better), or null, unreadable, refused, failed where there is none; `first_model`, `second_model`, `judge` and
    `cluster` are optional.
    """
    read = _alpaca_annotation if check_format(format) == "alpaca_eval" else _plain_annotation
    annotations = [read(row) for row in read_rows(path)]
    for field in ("model", "baseline", "judge"):
        names = sorted({getattr(annotation, field) or "(no name)" for annotation in annotations})
        if len(names) > 1:
            raise DataError(
                f"verdicts of more than one {field}: {some(names)}",
                where=str(path),
                remedy=f"a win rate over them means nothing; write one file for each {field}",
            )
    return annotations


def _alpaca_annotation(row: FileRow) -> Annotation:
    outcome, missing = _preference(row)
    return Annotation(
        prompt=text_field(row, "instruction"),
        answer=text_field(row, "output_2"),
        baseline_answer=text_field(row, "output_1"),
        outcome=outcome,
        missing=missing,
        model=name_field(row, "generator_2"),
        baseline=name_field(row, "generator_1"),
        judge=name_field(row, "annotator"),
        cluster="",
        where=row.where,
    )


def _preference(row: FileRow) -> tuple[float | None, str]:
    value = row.fields.get("preference")
    if value is None:
        return None, "null" if "preference" in row.fields else "absent"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise row.error(f"preference must be a number in [1, 2] or null, not {quoted(value)}")
    if value != value:  # math.isnan cannot take an int beyond the floats
        return None, "NaN"
    if value == 0:  # AlpacaEval 1 wrote 0 for a draw, AlpacaEval 2 reads it as 1.5
        return 0.5, ""
    return (float(value) - 1, "") if 1 <= value <= 2 else (None, "outside [1, 2]")


def _plain_annotation(row: FileRow) -> Annotation:
    outcome, missing = _verdict(row)
    return Annotation(
        prompt=text_field(row, "prompt"),
        answer=text_field(row, "first"),
        baseline_answer=text_field(row, "second"),
        outcome=outcome,
        missing=missing,
        model=name_field(row, "first_model"),
        baseline=name_field(row, "second_model"),
        judge=name_field(row, "judge"),
        cluster=name_field(row, "cluster"),
        where=row.where,
    )


def _verdict(row: FileRow) -> tuple[float | None, str]:
    value = row.fields.get("verdict")
    if value is None:
        return None, "null" if "verdict" in row.fields else "absent"
    if isinstance(value, str) and value in list(VerdictState):
        outcome = VerdictState(value).outcome
        return outcome, value if outcome is None else ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        words = ", ".join(VerdictState)
        raise row.error(f"verdict must be {words}, null or a number in [0, 1], not {quoted(value)}")
    if value != value:  # math.isnan cannot take an int beyond the floats
        return None, "NaN"
    return (float(value), "") if 0 <= value <= 1 else (None, "outside [0, 1]")


def eval_stats(path: Path, format: str, level: float = 0.95) -> AnnotationFigures:
    """The figures of a file's verdicts: AlpacaEval's, as it computes them, and ours.

    Raises:
        DataError: if the file holds no verdict, or a row that cannot be used.
    """
    annotations = read_annotations(Path(path), format)
    if not annotations:
        raise DataError("no verdicts", remedy="a file with at least one row is wanted")
    rows = list({replace(annotation, where=""): annotation for annotation in annotations}.values())
    present = [annotation for annotation in rows if annotation.outcome is not None]
    outcomes = np.array([annotation.outcome for annotation in present], dtype=np.float64)
    n, wins, losses = len(outcomes), int((outcomes > 0.5).sum()), int((outcomes < 0.5).sum())
    draws = n - wins - losses
    mean_length = sum(len(annotation.answer) for annotation in rows) / len(rows)
    clusters = _clusters(present)
    adjusted = _length_adjusted(present, outcomes, clusters, level)
    bounds = missing_bounds(outcomes, len(rows) - n)
    return AnnotationFigures(
        file=str(path),
        format=format,
        model=rows[0].model or None,
        baseline=rows[0].baseline or None,
        judge=rows[0].judge or None,
        rows=len(annotations),
        n=n,
        missing=len(rows) - n,
        missing_reasons=_reasons(rows),
        identical_rows=len(annotations) - len(rows),
        repeated_prompts=_repeated(rows),
        win_rate=100 * float(outcomes.mean()) if n else None,
        standard_error=100 * float(outcomes.std(ddof=1)) / math.sqrt(n) if n > 1 else None,
        wins=wins,
        losses=losses,
        draws=draws,
        discrete_win_rate=100 * (wins + draws / 2) / n if n else None,
        mean_length=int(mean_length),
        mean_length_exact=mean_length,
        interval=PercentInterval.of(win_rate(outcomes, clusters, level), level),
        length_adjusted_win_rate=PercentInterval.of(adjusted, level),
        sign_test_p=sign_test(wins, losses).p,
        win_rate_if_missing_lost=_times_100(bounds.worst),
        win_rate_if_missing_won=_times_100(bounds.best),
        warnings=(*_warnings(annotations, rows, n), *_of_answers(rows, outcomes, adjusted)),
    )


def _length_adjusted(
    present: Sequence[Annotation],
    outcomes: NDArray[np.float64],
    clusters: Sequence[tuple[str, str]] | None,
    level: float,
) -> Interval:
    length = np.array([len(annotation.answer) for annotation in present])
    other_length = np.array([len(annotation.baseline_answer) for annotation in present])
    return length_adjusted_win_rate(outcomes, length, other_length, np.random.default_rng(_SEED), clusters, level)


def _clusters(annotations: Sequence[Annotation]) -> list[tuple[str, str]] | None:
    """Group of each verdict: its cluster, else its prompt; None where every verdict is its own."""
    labels = [
        ("cluster", annotation.cluster) if annotation.cluster else ("prompt", annotation.prompt)
        for annotation in annotations
    ]
    return labels if len(set(labels)) < len(labels) else None


def _times_100(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _reasons(rows: Sequence[Annotation]) -> dict[str, int]:
    return dict(sorted(Counter(annotation.missing for annotation in rows if annotation.missing).items()))


def _repeated(rows: Sequence[Annotation]) -> int:
    return sum(times > 1 for times in Counter(annotation.prompt for annotation in rows).values())


def _warnings(annotations: Sequence[Annotation], rows: Sequence[Annotation], n: int) -> list[str]:
    warnings = []
    reasons, repeated = _reasons(rows), _repeated(rows)
    if reasons:
        named = ", ".join(f"{reason}: {times}" for reason, times in reasons.items())
        warnings.append(
            f"{len(rows) - n} of {len(rows)} verdicts are missing ({named}); they are no ties and no losses"
        )
    if len(annotations) > len(rows):
        warnings.append(f"{len(annotations) - len(rows)} rows repeat an earlier one in all that is read and count once")
    if repeated:
        warnings.append(f"{repeated} prompts have more than one row; the interval counts each prompt as one group")
    if 0 < n < 30:
        warnings.append(f"{n} verdicts can show little; the interval says how little")
    return warnings


def _of_answers(rows: Sequence[Annotation], outcomes: NDArray[np.float64], adjusted: Interval) -> Iterator[str]:
    """What the answers themselves give reason to doubt, as in a comparison of the project's own models."""
    model, baseline = (
        answer_figures([row.answer for row in rows]),
        answer_figures([row.baseline_answer for row in rows]),
    )
    for name, figures in ((rows[0].model or "the model", model), (rows[0].baseline or "the baseline", baseline)):
        yield from (caveat.text for caveat in answer_caveats(name, figures))
    rate = float(outcomes.mean()) if len(outcomes) else None
    doubt = length_doubt(rate, adjusted, model.mean_characters, baseline.mean_characters)
    if doubt is not None:
        yield doubt
