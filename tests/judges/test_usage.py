"""Short names of judges, and what their replies took."""

from __future__ import annotations

import pytest

from fairlead.documents.pairs import ReplyUsage
from fairlead.records.judge_names import legend, short_name

PROMPTED = "openai:org/llama:8b:pairwise-1a,score-2b,correction-3c:0123abcd"


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        (PROMPTED, "openai:org/llama:8b"),
        ("rubric:3e324994306f026a", "rubric"),
        ("reward:folder/model", "reward:folder/model"),
        (f"panel:majority({PROMPTED}; rubric:3e324994306f026a)", "panel of openai:org/llama:8b, rubric (majority)"),
        (None, "none"),
    ],
)
def test_a_judge_has_a_short_name_and_a_legend_where_that_is_not_the_whole(identity: str | None, name: str) -> None:
    assert short_name(identity) == name
    assert legend(identity) == ("" if identity in (None, name) else f"{name} is {identity}")


def test_usage_is_summed_over_what_is_known() -> None:
    parts = [ReplyUsage(replies=1, input_tokens=10, cost=0.1), ReplyUsage(replies=2, output_tokens=5, cost=0.2)]
    assert ReplyUsage.sum(parts) == ReplyUsage(replies=3, input_tokens=10, output_tokens=5, cost=0.30000000000000004)
    assert ReplyUsage.sum([]) == ReplyUsage(replies=0)
