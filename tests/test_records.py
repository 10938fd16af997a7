"""The records' text forms and identities."""

from __future__ import annotations

import pytest

from fairlead.records import ModelPair


def test_a_pair_of_models_reads_what_it_writes() -> None:
    pair = ModelPair("dpo", "sft")
    assert str(pair) == "dpo_vs_sft"
    assert pair.title == "dpo vs sft"
    assert ModelPair.parse(str(pair)) == pair


@pytest.mark.parametrize("text", ["", "dpo", "_vs_sft", "dpo_vs_", "dpo vs sft"])
def test_a_text_that_names_no_pair_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a pair of models"):
        ModelPair.parse(text)
