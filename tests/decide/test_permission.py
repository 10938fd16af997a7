"""A project that trains without a decision says so, with the reason, on every page; one with a decision does not."""

from __future__ import annotations

import pytest

from fairlead.documents.gate import CandidateResult, GateRecord
from fairlead.gate.output import gate_markdown, waiver
from fairlead.release.model_card import _gate
from fairlead.sweep.recommend import Point, markdown, recommend

REASON = "we train\nto learn how"


def record(waived: str | None) -> GateRecord:
    return GateRecord(
        status="passed",
        criteria=(),
        candidates={"dpo": CandidateResult(status="passed", criteria=())},
        advice="release dpo",
        prompts=10,
        judge="rubric",
        judged={},
        eval_prompts="",
        adapter={},
        adapters={},
        template=None,
        config={},
        waived=waived,
        config_hash="",
        versions={},
    )


@pytest.mark.parametrize("waived", [REASON, None])
def test_gate_card_and_sweep_say_it(waived: str | None) -> None:
    points = [Point.not_measured({"dpo.beta": 0.1}, "the loss is not a number")]
    pages = [
        gate_markdown(record(waived)),
        _gate(record(waived), "dpo"),
        markdown(points, recommend(points, []), waived),
    ]
    for page in pages:
        assert ("was waived:** we train to learn how" in page) is (waived is not None)
    assert waiver(None) == ""
