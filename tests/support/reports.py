"""Results, gate records and reports as typed documents, made from a few figures or read from a stored report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fairlead.documents.evaluation import (
    AnswerFigures,
    Caveat,
    Conclusion,
    EvalResult,
    MetricDifference,
    MetricRow,
    MostCommon,
    PairResult,
    Plan,
)
from fairlead.documents.report import Report
from fairlead.records import Interval, ModelPair

DEMO_REPORT = Path(__file__).parents[1] / "report" / "demo_report.json"
NO_INTERVAL = Interval(None, None, None, 0, "undefined: not measured")


def stored_report() -> dict[str, Any]:
    """The report of a demo run, with some lists shortened, as this version's predecessor wrote it."""
    content: dict[str, Any] = json.loads(DEMO_REPORT.read_text(encoding="utf-8"))
    return content


def demo_report(**changes: Any) -> Report:
    """The stored report with some of its fields set otherwise."""
    return Report.model_validate({**stored_report(), **changes})


def pair_of(pair: ModelPair, low: float, high: float, n: int = 300, **changes: Any) -> PairResult:
    """A win rate with its interval and little else."""
    states = dict.fromkeys(("win", "loss", "tie", "inconsistent", "unreadable", "refused", "failed"), 0)
    return PairResult(
        pair=pair,
        win_rate=Interval((low + high) / 2, low, high, n, "score"),
        missing=0,
        states={**states, "win": n},
        conclusion=Conclusion.BETTER if low > 0.5 else Conclusion.WORSE if high < 0.5 else Conclusion.NOT_SHOWN,
        detectable=None,
        worst=low,
        best=high,
        consistent=NO_INTERVAL,
        pooled=NO_INTERVAL,
        sign_test_p=None,
        length_adjusted=None,
    ).model_copy(update=changes)


def difference_of(metric: str, pair: ModelPair, low: float, high: float, n: int = 300) -> MetricDifference:
    """A difference with its interval and little else."""
    return MetricDifference(
        metric=metric,
        pair=pair,
        delta=Interval((low + high) / 2, low, high, n, "score"),
        missing=0,
        conclusion=Conclusion.BETTER if low > 0 else Conclusion.WORSE if high < 0 else Conclusion.NOT_SHOWN,
        detectable=None,
        delta_worst=None,
        delta_best=None,
        p=0.001,
    )


def row_of(difference: MetricDifference, sft_over_base: MetricDifference | None, **means: float) -> MetricRow:
    """A row of the table, its means without intervals."""
    intervals = {model: Interval(value, None, None, 300, "given") for model, value in means.items()}
    return MetricRow(means=intervals, difference=difference, sft_over_base=sft_over_base)


def answers_of(**cut: float) -> dict[str, AnswerFigures]:
    """By model, answers of which a share was cut."""
    most_common = MostCommon(text="", times=1)
    return {
        model: AnswerFigures(n=300, mean_characters=80.0, cut=share, loops=0.0, most_common=most_common)
        for model, share in cut.items()
    }


def eval_result(
    table: tuple[MetricRow, ...],
    pairwise: tuple[PairResult, ...],
    answers: dict[str, AnswerFigures],
    caveats: tuple[Caveat, ...] = (),
) -> EvalResult:
    """A comparison of 300 prompts in which no verdict is missing."""
    return EvalResult(
        table=table,
        pairwise=pairwise,
        prompts=300,
        missing=0.0,
        judge="rubric",
        score_states=None,
        flagged=0,
        panel_disagreement=None,
        plan=Plan(prompts=300, clusters=300, at_best=0.08, at_worst=0.08),
        answers=answers,
        caveats=caveats,
    )
