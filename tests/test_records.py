"""The records' text forms and identities, what a verdict counts, and that stored rows are read as written."""

from __future__ import annotations

import json

import pytest

from fairlead.records import (
    Flag,
    ModelPair,
    Score,
    ScoreState,
    Verdict,
    VerdictState,
    score_from_json,
    to_json,
    verdict_from_json,
)


def test_a_pair_of_models_reads_what_it_writes() -> None:
    pair = ModelPair("dpo", "sft")
    assert str(pair) == "dpo_vs_sft"
    assert pair.title == "dpo vs sft"
    assert ModelPair.parse(str(pair)) == pair


@pytest.mark.parametrize("text", ["", "dpo", "_vs_sft", "dpo_vs_", "dpo vs sft"])
def test_a_text_that_names_no_pair_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a pair of models"):
        ModelPair.parse(text)


@pytest.mark.parametrize(
    ("state", "decided", "missing", "outcome", "swapped"),
    [
        ("win", True, False, 1.0, "loss"),
        ("loss", True, False, 0.0, "win"),
        ("tie", True, False, 0.5, "tie"),
        ("inconsistent", False, False, 0.5, "inconsistent"),
        ("unreadable", False, True, None, "unreadable"),
        ("refused", False, True, None, "refused"),
        ("failed", False, True, None, "failed"),
    ],
)
def test_what_each_state_counts(state: str, decided: bool, missing: bool, outcome: float | None, swapped: str) -> None:
    of = VerdictState(state)
    assert (of.decided, of.missing, of.outcome, of.swapped) == (decided, missing, outcome, swapped)
    verdict = Verdict("c", of, "judge")
    assert (verdict.decided, verdict.missing, verdict.outcome) == (decided, missing, outcome)


def test_only_a_score_has_a_value() -> None:
    assert [state.missing for state in ScoreState] == [False, True, True, True]


def test_rows_are_read_as_they_were_written() -> None:
    verdict = Verdict(
        *("c", VerdictState.INCONSISTENT, "judge", None, "why", ("key",)),
        orders=(VerdictState.WIN, VerdictState.TIE),
        flags=(Flag.SECOND_INSTRUCTS_JUDGE,),
    )
    assert verdict_from_json(json.loads(json.dumps(to_json(verdict)))) == verdict
    score = Score("a", ScoreState.SCORED, "judge", 7.0, "why", ("key",), (Flag.ANSWER_INSTRUCTS_JUDGE,))
    assert score_from_json(json.loads(json.dumps(to_json(score)))) == score


def test_rows_without_flags_or_orders_are_still_read() -> None:
    row = {"comparison_id": "c", "state": "win", "judge": "j", "margin": None, "reason": "", "calls": []}
    assert verdict_from_json(row) == Verdict("c", VerdictState.WIN, "j")
    score = {"answer_id": "a", "state": "scored", "judge": "j", "value": 7.0, "reason": "", "calls": []}
    assert score_from_json(score) == Score("a", ScoreState.SCORED, "j", 7.0)
