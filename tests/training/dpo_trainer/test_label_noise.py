"""What was measured of the judge's errors reaches the loss."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fairlead import Project
from fairlead.documents.qualification import CheckedRow
from fairlead.errors import DataError, TrainingError
from fairlead.judges.qualification.agreement import ask
from fairlead.judges.qualification.human_labels import LOSS, TIE, WIN, LabelledComparison
from fairlead.judges.qualification.recording_judge import RecordingJudge, checked_rows
from fairlead.records import Answer, Comparison, Prompt, Score, Verdict, VerdictState
from fairlead.training.dpo_trainer.label_error import (
    MAX_ERROR,
    LabelError,
    error_from_order_disagreement,
    estimate_label_error,
    judge_label_error,
    order_counts,
)
from fairlead.training.dpo_trainer.label_noise import pair_errors, pair_weights
from fairlead.training.dpo_trainer.label_noise_trainer import confidently_wrong
from fairlead.training.measurements import read_metrics
from tests.support.projects import tiny_config, write_config


def test_disagreement_of_the_orders_gives_back_the_error_that_made_it() -> None:
    """A judge that errs with 0.2 in each order: 0.32 disagree, and of the rest 0.04 / 0.68 are wrong twice."""
    assert error_from_order_disagreement(320, 680) == pytest.approx(0.04 / 0.68)
    assert error_from_order_disagreement(0, 50) == 0
    assert error_from_order_disagreement(60, 40) == 0.5
    assert error_from_order_disagreement(0, 0) is None


def test_disagreement_is_checked_by_simulation() -> None:
    rng = np.random.default_rng(0)
    wrong = rng.random((200_000, 2)) < 0.3
    agree = wrong[:, 0] == wrong[:, 1]
    error = error_from_order_disagreement(int((~agree).sum()), int(agree.sum()))
    assert error == pytest.approx(float(wrong[agree, 0].mean()), abs=0.005)


def test_the_larger_of_peoples_and_the_orders_error_counts_and_nothing_gives_nothing() -> None:
    by_people = estimate_label_error([True] * 15 + [False] * 5, disagreeing=10, decided=90)
    assert by_people is not None
    assert by_people.error == pytest.approx(5.5 / 21)
    assert "20 comparisons" in by_people.source
    by_order = estimate_label_error(disagreeing=32, decided=68)
    assert by_order is not None
    assert by_order.error == pytest.approx(0.0588, abs=1e-3)
    worse = estimate_label_error([True] * 100, disagreeing=32, decided=68)
    assert worse is not None
    assert worse.error == by_order.error
    assert "32 of 100" in worse.source
    assert estimate_label_error() is None


def test_none_wrong_of_twenty_is_not_an_error_of_0() -> None:
    estimate = estimate_label_error([True] * 20)
    assert estimate is not None
    assert 0 < estimate.error < 0.05


def test_a_margin_that_tells_right_from_wrong_gives_a_slope_and_one_that_does_not_gives_none() -> None:
    rng = np.random.default_rng(0)
    margins = rng.random(400)
    telling = [bool(c) for c in rng.random(400) < 1 / (1 + np.exp(-6 * (margins - 0.3)))]
    blind = [bool(c) for c in rng.random(400) < 0.6]
    one, other = estimate_label_error(telling, list(margins)), estimate_label_error(blind, list(margins))
    assert one is not None
    assert other is not None
    assert one.slope > 1
    assert other.slope < 0.3


def test_pair_errors_have_the_measured_mean_and_fall_with_the_margin() -> None:
    margins = [0.1, 0.2, 0.5, 0.9, 1.0]
    errors = pair_errors(LabelError(0.2, "", slope=1.5), margins)
    assert sum(errors) / 5 == pytest.approx(0.2)
    assert errors == sorted(errors, reverse=True)
    steep = pair_errors(LabelError(0.3, "", slope=20.0), margins)
    assert sum(steep) / 5 == pytest.approx(0.3)
    assert max(steep) == MAX_ERROR
    assert pair_errors(LabelError(0.2, ""), margins) == [0.2] * 5
    with_none = pair_errors(LabelError(0.2, "", slope=1.5), [0.1, None, 0.9])
    assert with_none[1] == 0.2
    assert max(pair_errors(LabelError(0.6, ""), margins)) == MAX_ERROR


def test_weights_have_mean_1_and_a_coin_flip_weighs_least() -> None:
    weights = pair_weights([0.0, 0.25, 0.45])
    assert sum(weights) / 3 == pytest.approx(1)
    assert weights[0] == pytest.approx(4 * weights[1])
    assert weights[2] == pytest.approx(0.01 * weights[0])
    assert pair_weights([0.4, 0.4]) == [1, 1]


def test_counts_of_the_pairs_stage_are_read() -> None:
    assert order_counts({"pairs": 40, "within_margin": 10, "inconsistent": 7, "tie": 3}) == (7, 50)


@pytest.mark.parametrize(
    ("margins", "share"), [([3, 2, 0.1, -0.1], 0.0), ([3, -2, 0.1, 0.1], 0.5), ([-3, -2], 1.0), ([1], None)]
)
def test_confidently_wrong_looks_at_the_clearest_half(margins: list[Any], share: float | None) -> None:
    assert confidently_wrong(margins) == share


def test_what_is_known_comes_from_checked_rows_before_the_orders(tmp_path: Path) -> None:
    checks = tmp_path / "checks.jsonl"
    checks.write_text('{"correct": true, "margin": 0.5}\n{"correct": false}\n{"correct": true, "margin": null}\n')
    assert judge_label_error(checks, {"pairs": 90, "inconsistent": 10}).error == pytest.approx(1.5 / 4)
    counts = {"pairs": 68, "inconsistent": 32}
    assert judge_label_error(None, counts).error == pytest.approx(0.0588, abs=1e-3)
    checked = [CheckedRow(correct=n % 5 > 0, margin=0.1 * n) for n in range(50)]
    assert judge_label_error(None, counts, checked).error == pytest.approx(10.5 / 51)
    assert judge_label_error(checks, counts, checked).error == pytest.approx(1.5 / 4)
    assert judge_label_error(None, counts, []).error == pytest.approx(0.0588, abs=1e-3)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{}", "'correct' must be true or false, not None"),
        ('{"correct": 1}', "'correct' must be true or false, not 1"),
        ('{"correct": true, "margin": "big"}', "'margin' must be a finite number, not 'big'"),
        ('{"correct": true, "margin": true}', "'margin' must be a finite number, not True"),
        (f'{{"correct": true, "margin": 1{"0" * 400}}}', "'margin' must be a finite number, not 1000"),
        ("[]", "not an object but a list"),
    ],
)
def test_a_row_of_another_form_is_named(tmp_path: Path, row: str, message: str) -> None:
    checks = tmp_path / "checks.jsonl"
    checks.write_text(f'{{"correct": true}}\n{row}\n')
    with pytest.raises(DataError, match=rf"checks\.jsonl:2: .*{message}"):
        judge_label_error(checks, {})


def test_no_rows_nothing_known_and_a_coin_are_refused(tmp_path: Path) -> None:
    checks = tmp_path / "checks.jsonl"
    checks.write_text("")
    with pytest.raises(DataError, match="has no rows"):
        judge_label_error(checks, {})
    with pytest.raises(TrainingError, match=r"nothing was measured .* dpo\.label_checks"):
        judge_label_error(None, {"pairs": 50})
    checks.write_text('{"correct": false}\n{"correct": true}\n{"correct": false}\n')
    with pytest.raises(TrainingError, match="wrong in 62% of labels"):
        judge_label_error(checks, {})


def test_rows_of_the_judges_check_keep_verdict_and_margin() -> None:
    """Decided rows on which both orders agree; the one that people call a tie and the one that flips are none."""

    class ByLength:
        name = "longer wins"

        def compare(self, items: Iterable[Comparison]) -> Iterator[Verdict]:
            for item in items:
                gap = len(item.first) - len(item.second)
                state = LOSS if item.first == "flip" else WIN if gap > 0 else LOSS
                yield Verdict(item.id, state, self.name, margin=abs(gap))

        def score(self, items: Iterable[Answer]) -> Iterator[Score]:
            raise NotImplementedError

    def row(first: str, second: str, human: VerdictState) -> LabelledComparison:
        return LabelledComparison(Comparison(Prompt.of("p"), first, second), (human,))

    rows = [row("long", "s", WIN), row("long", "sh", LOSS), row("long", "shor", TIE), row("flip", "x", WIN)]
    rows.append(row("never asked", "s", WIN))
    judge = RecordingJudge(ByLength())
    ask(judge, rows[:4])
    assert checked_rows(judge.verdicts, rows) == (
        CheckedRow(correct=True, margin=3),
        CheckedRow(correct=False, margin=2),
    )


def test_without_checked_rows_of_its_own_the_judges_check_tells_error_and_slope(tiny_project: Path) -> None:
    """People prefer the shorter answer where the judge's margin is large, the longer one elsewhere."""
    rows = [
        {"prompt": f"question {n}", "first": "x" * 3, "second": "x" * (4 + n), "human": "first" if n > 12 else "second"}
        for n in range(48)
    ]
    (tiny_project / "labelled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = tiny_config()
    demands = ("min_accuracy", "min_order_agreement", "max_padded_wins", "max_canary_wins", "max_missing")
    config["judge_check"] = {"labelled": "labelled.jsonl", **dict.fromkeys(demands)}
    config["dpo"] |= {"label_noise": "measured"}
    write_config(tiny_project, config)
    figures = Project(tiny_project).run("dpo")["dpo"].manifest.figures
    assert figures["label_error"] == pytest.approx(13.5 / 49, abs=1e-6)
    assert "48 comparisons" in figures["label_error_source"]
    assert figures["label_error_low"] < figures["label_error"] < figures["label_error_high"]


def test_measured_noise_goes_through_the_dpo_stage(tiny_project: Path) -> None:
    """From the file of checked rows to the loss and the figures, and another file is another artifact."""
    rows = [{"correct": n % 4 > 0, "margin": n / 40} for n in range(40)]
    (tiny_project / "checks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = tiny_config()
    config["dpo"] |= {"label_noise": "measured", "label_checks": "checks.jsonl"}
    write_config(tiny_project, config)
    made = Project(tiny_project).run("dpo")["dpo"]
    figures = made.manifest.figures
    assert figures["label_error"] == pytest.approx(10.5 / 41, abs=1e-6)
    assert "40 comparisons" in figures["label_error_source"]
    log = read_metrics(made.file("metrics.jsonl"))
    assert log[0]["run/label_noise"] == "measured"
    plain = math.log(2)
    # At a gap of 0 cDPO's loss is ln 2 times the pair's weight, whatever the error; the weights' mean is 1.
    assert next(row["loss"] for row in log if "loss" in row) == pytest.approx(plain, rel=0.5)
    (tiny_project / "checks.jsonl").write_text('{"correct": true}\n' * 40, encoding="utf-8")
    again = Project(tiny_project).run("dpo")["dpo"]
    assert again.manifest.key != made.manifest.key
    assert again.manifest.figures["label_error"] == pytest.approx(0.5 / 41)
