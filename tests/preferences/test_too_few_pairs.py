"""Too few pairs: the remedy fits what took most of the comparisons."""

from __future__ import annotations

import pytest

from fairlead.documents.pairs import PairOutcome
from fairlead.preferences.too_few_pairs import too_few_pairs


@pytest.mark.parametrize(
    ("counts", "dropped", "remedy"),
    [
        ({"inconsistent": 217}, {}, "it is the judge: it contradicts itself"),
        ({"unreadable": 19, "pairs": 1, "tie": 2}, {}, "it is the judge: no verdict can be read"),
        ({"refused": 9, "tie": 2}, {}, "it is the judge: it declines"),
        ({"failed": 3, "pairs": 1}, {}, "then fairlead run asks for the missing"),
        ({"unjudged": 3}, {}, "fairlead run --force judge"),
        ({"tie": 20, "inconsistent": 3}, {}, "equally good"),
        ({"identical": 12, "inconsistent": 3}, {}, "wider temperatures"),
        ({"within_margin": 12, "pairs": 1}, {}, "pairs.margin"),
        ({"revision_is_worse": 12, "pairs": 1}, {}, "pairs.recipe"),
        ({"empty": 12, "pairs": 1}, {}, "answers with nothing"),
        ({"pairs": 40, "tie": 3}, {"loops": 40}, "data_check.drop"),
        ({"pairs": 11, "inconsistent": 21}, {"truncated": 11}, "data_check.drop"),
        ({"pairs": 1}, {}, "give more prompts"),
        ({}, {}, "give more rows in data.preferences"),
        ({}, {"loops": 2}, "data_check.drop"),
    ],
)
def test_the_remedy_fits_the_cause(counts: dict[str, int], dropped: dict[str, int], remedy: str) -> None:
    typed = {PairOutcome(name): count for name, count in counts.items()}
    error = too_few_pairs(1, typed, dropped)
    assert remedy in str(error)
    assert "\n" not in str(error)
    assert str(error).startswith("pairs: 1 preference pairs came out")


def test_every_outcome_has_a_remedy_and_every_count_is_named() -> None:
    for outcome in PairOutcome:
        error = too_few_pairs(0, {outcome: 5}, {"loops": 2})
        assert f"5 {outcome.replace('_', ' ')}, 2 dropped as loops" in str(error)
