"""Figures in words."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.cli.render import figure


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.123456789, "0.1235"),
        (None, "—"),
        (True, "yes"),
        (12, "12"),
        ("passed", "passed"),
        ({"value": 0.61234, "low": 0.52, "high": 0.7, "n": 120}, "0.6123 [0.52, 0.7], n 120"),
        ({"value": None, "low": None, "high": None, "n": 0}, "—, n 0"),
        ({"base": 0.25, "first_place": None}, "base 0.25, first place —"),
        ({}, "none"),
        ([], "none"),
        (["a", "b"], "a, b"),
        (list(range(10)), "0, 1, 2, 3, 4, 5, 6, 7 and 2 more"),
    ],
)
def test_a_figure_is_rounded_and_never_a_python_literal(value: Any, words: str) -> None:
    assert figure(value) == words
