"""From verdicts to triples: only a win or a loss makes a pair."""

from __future__ import annotations

import json

import pytest

from fairlead.files import dump_json
from fairlead.preferences.pairing import comparisons_for, preferences_from
from fairlead.records import (
    Comparison,
    Completion,
    Prompt,
    Sampled,
    Sampling,
    Verdict,
    VerdictState,
    preference_from_json,
    to_json,
)

PROMPT = Prompt.of("p")


def drawn(*texts: str) -> list[Completion]:
    return [Completion(PROMPT.id, text, "sft", Sampling(), index=n, seed=n) for n, text in enumerate(texts)]


def verdict(first: str, second: str, state: VerdictState, margin: float | None = None) -> Verdict:
    return Verdict(Comparison(PROMPT, first, second).id, state, "judge", margin)


def pairs(texts: list[str], verdicts: list[Verdict], **kwargs: object) -> list[tuple[str, str]]:
    options = {"recipe": "best_worst", "margin": 0.0, **kwargs}
    preferences, _ = preferences_from([PROMPT], drawn(*texts), verdicts, **options)  # type: ignore[arg-type]
    return [(p.chosen, p.rejected) for p in preferences]


def test_the_winner_is_chosen_whichever_came_first() -> None:
    assert pairs(["a", "b"], [verdict("a", "b", VerdictState.WIN)]) == [("a", "b")]
    assert pairs(["a", "b"], [verdict("a", "b", VerdictState.LOSS)]) == [("b", "a")]


@pytest.mark.parametrize("state", [s for s in VerdictState if s not in (VerdictState.WIN, VerdictState.LOSS)], ids=str)
def test_a_tie_or_a_missing_verdict_never_makes_a_pair(state: VerdictState) -> None:
    preferences, counts = preferences_from(
        [PROMPT], drawn("a", "b"), [verdict("a", "b", state)], recipe="best_worst", margin=0.0
    )
    assert preferences == []
    assert counts[str(state)] == 1


def test_identical_completions_are_counted_and_never_compared() -> None:
    comparisons, alike = comparisons_for([PROMPT], drawn("a", "a"))
    assert (comparisons, alike) == ([], 1)


def test_best_worst_takes_the_extremes_of_n() -> None:
    verdicts = [
        verdict("a", "b", VerdictState.WIN),
        verdict("a", "c", VerdictState.WIN),
        verdict("b", "c", VerdictState.WIN),
    ]
    assert pairs(["a", "b", "c"], verdicts) == [("a", "c")]
    assert pairs(["a", "b", "c"], verdicts, recipe="all") == [("a", "b"), ("a", "c"), ("b", "c")]


def test_a_margin_that_is_not_exceeded_makes_no_pair() -> None:
    verdicts = [verdict("a", "b", VerdictState.WIN, margin=0.2)]
    assert pairs(["a", "b"], verdicts, margin=0.2) == []
    assert pairs(["a", "b"], verdicts, margin=0.1) == [("a", "b")]


def test_provenance_names_both_draws_the_judge_and_the_verdict() -> None:
    preferences, _ = preferences_from(
        [PROMPT], drawn("a", "b"), [verdict("a", "b", VerdictState.LOSS)], recipe="all", margin=0.0
    )
    provenance = preferences[0].provenance
    assert isinstance(provenance, Sampled)
    assert provenance.chosen.seed == 1
    assert provenance.rejected.seed == 0
    assert provenance.judge == "judge"
    assert provenance.verdict == Comparison(PROMPT, "a", "b").id
    assert preference_from_json(json.loads(dump_json(to_json(preferences[0])))) == preferences[0]
