"""What judges write, and what may be read from it."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from fairlead.judges.reply_parser import is_refusal, read_choice, read_score

REPLIES = [json.loads(line) for line in (Path(__file__).parent / "hostile_replies.jsonl").read_text().splitlines()]


def groups() -> dict[str, list[dict[str, Any]]]:
    """The replies by what they are about."""
    by_subject: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in REPLIES:
        by_subject[f"{row['kind']}: {row['about']}"].append(row)
    return by_subject


@pytest.mark.parametrize("rows", [pytest.param(rows, id=name) for name, rows in groups().items()])
def test_a_reply_is_read_as_expected(rows: list[dict[str, Any]]) -> None:
    readers = {"pairwise": read_choice, "score": read_score}
    readings = [(row["reply"], readers[row["kind"]](row["reply"], cut=row.get("cut", False))) for row in rows]
    assert readings == [(row["reply"], row["expected"]) for row in rows]


def test_the_list_of_replies_is_whole() -> None:
    assert len(REPLIES) == 603
    assert {row["expected"] for row in REPLIES if row["kind"] == "pairwise"} == {"A", "B", "tie", None}


@pytest.mark.parametrize("row", REPLIES[::7], ids=lambda row: None)
def test_no_reply_of_the_list_breaks_the_search_for_refusals(row: dict[str, Any]) -> None:
    assert is_refusal(row["reply"]) in (True, False)


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't assist with that.",
        "I cannot judge these answers.",
        "I am unable to rate content of this kind.",
        "Sorry, I won't compare these.",
        "As an AI, I am not able to evaluate this.",
        "Unfortunately, I cannot help.",
        "I refuse to judge this.",
        "Unable to comply.",
    ],
)
def test_a_refusal_is_recognised(text: str) -> None:
    assert is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "Answer A says sorry but I can see it is better.",
        "",
        "The model cannot count.",
        "I cannot find any fault with answer A",
        "I can't decide: both cannot be right.",
    ],
)
def test_what_only_mentions_refusing_is_none(text: str) -> None:
    assert not is_refusal(text)
