"""What there is to learn from is counted by distinct prompts, and its own answers are measured."""

from __future__ import annotations

import pytest

from fairlead.config.data import DataCheckSettings
from fairlead.decide.training_data import examine
from fairlead.documents.prepare import PrepareCounts, PreparedRows
from fairlead.records import Example, Preference, Prompt


def test_prompts_of_all_kinds_are_counted_once_and_answers_are_measured() -> None:
    examples = [Example(Prompt.of(f"q{n}"), "good" if n < 3 else "bad") for n in range(4)]
    training_data = examine(
        examples,
        [Prompt.of("q0"), Prompt.of("new")],
        [],
        {"is_good": lambda answer, gold: float(answer == "good"), "undefined": lambda answer, gold: None},
        PrepareCounts(sft=PreparedRows(duplicates=2, dev_dropped=4), prompts=PreparedRows(duplicates=1)),
        settings=DataCheckSettings(),
        similarity=0.8,
    )
    assert training_data.prompts == 5
    assert training_data.counts == {"sft": 4, "prompts": 2, "preferences": 0}
    assert training_data.dropped == {"duplicates": 3, "overlapping the dev split": 4}
    assert list(training_data.quality) == ["is_good"]
    assert training_data.quality["is_good"].value == pytest.approx(0.75)
    assert training_data.repeated == pytest.approx(0.75), "three of four answers are the same word"
    assert training_data.faults is None


def test_ready_pairs_are_checked_as_data_check_does() -> None:
    pairs = [Preference(Prompt.of(f"question number {n}"), f"answer {n}", f"worse {n}") for n in range(30)]
    pairs.append(Preference(Prompt.of("x"), "the key is AKIAABCDEFGHIJKLMNOP", "no"))
    training_data = examine([], [], pairs, {}, PrepareCounts(), settings=DataCheckSettings(), similarity=0.8)
    assert training_data.prompts == 31
    assert training_data.repeated is None
    assert training_data.faults is not None
    assert training_data.faults["secrets"] == "fail"
    settings = DataCheckSettings(waive={"secrets": "keys of a test account"})
    waived = examine([], [], pairs, {}, PrepareCounts(), settings=settings, similarity=0.8)
    assert waived.faults is not None
    assert waived.faults["secrets"] == "waived: keys of a test account"
