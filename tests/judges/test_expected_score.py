"""The mean score over the probabilities of its token: worked out by hand."""

from __future__ import annotations

import math

import pytest

from fairlead.judges.expected_score import expected_score


def probabilities(**shares: float) -> list[tuple[str, float]]:
    return [(token.removeprefix("n"), math.log(share)) for token, share in shares.items()]


def certain(*tokens: str) -> list[tuple[str, list[tuple[str, float]]]]:
    return [(token, [(token, 0.0)]) for token in tokens]


def test_the_expected_score_is_the_mean_over_the_alternatives() -> None:
    tokens = [*certain('{"score": '), ("8", probabilities(n8=0.5, n6=0.25, x=0.25)), *certain("}")]
    assert expected_score(tokens, 8.0) == pytest.approx((8 * 0.5 + 6 * 0.25) / 0.75)


def test_the_expected_score_is_taken_where_the_score_that_was_read_stands() -> None:
    eight = ("8", probabilities(n8=0.5, n6=0.5))
    assert expected_score([eight, *certain("/", "10")], 8.0) == pytest.approx(7.0)
    assert expected_score([eight, *certain(',"reason":"only ', "3", ' flaws"}')], 8.0) == pytest.approx(7.0)
    assert expected_score([("10", probabilities(n10=0.5, n8=0.5)), *certain("/", "10")], 10.0) == pytest.approx(9.0)


def test_without_a_token_that_is_the_score_it_stays_what_was_read() -> None:
    assert expected_score([("9", probabilities(n9=0.5, n8=0.5)), *certain(".", "5")], 9.5) == 9.5
    assert expected_score([("1", probabilities(n1=0.9)), ("0", probabilities(n0=1.0))], 10.0) == 10.0
    assert expected_score([("1", probabilities(n1=0.9)), ("0", probabilities(n0=1.0))], 1.0) == 1.0
    assert expected_score([("8", probabilities(n8=0.3, x=0.7))], 8.0) == 8.0
    assert expected_score(certain("good"), 7.0) == 7.0
    assert expected_score([], 7.0) == 7.0


def test_probabilities_that_are_none_leave_the_score_that_was_read() -> None:
    assert expected_score([("8", [("8", math.nan), ("6", -1.0)])], 8.0) == 8.0
    assert 1 <= expected_score([("8", [("8", 1e6), ("6", -math.inf)])], 8.0) <= 10
