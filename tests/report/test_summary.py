"""`reflection.md`: every sentence from a figure and linked to it; a DPO that failed is called one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from fairlead import Project
from fairlead.files import read_json
from fairlead.report.summary import reflection

LINK = re.compile(r"\[([^\]]+)\]\(report\.json#\1\)")


def report(word: str = "better", **changes: Any) -> dict[str, Any]:
    states = {"win": 60, "loss": 30, "tie": 10, "inconsistent": 0, "unreadable": 0, "refused": 0, "failed": 0}
    pair = {"win_rate": 0.65, "low": 0.55, "high": 0.74, "n": 100, "word": word, "detectable": 0.14, "missing": 0}
    pair |= {"worst": 0.65, "best": 0.65, "states": {**states, **changes.pop("states", {})}}
    row = {"metric": "format", "base": 0.1, "sft": 0.6, "dpo": 0.8, "delta": 0.2, "delta_low": 0.1, "delta_high": 0.3}
    row |= {"word": "better", "against": "sft"}
    status = {"better": "passed"}.get(word, "failed")
    return {
        "gate": {"status": status, "advice": "release dpo" if status == "passed" else "release sft, drop dpo"},
        "pairwise": {"dpo_vs_sft": pair},
        "table": [row, {**row, "metric": "length", "word": "no difference shown (could have seen ±0.100)"}],
        "answers": {"sft": {"mean_characters": 100.0}, "dpo": {"mean_characters": 130.0}},
        "probe": {
            "implicit_reward_accuracy": {"value": 0.8, "low": 0.67, "high": 0.89, "n": 50},
            "kl_from_reference": {"value": 3.0, "low": 2.5, "high": 3.5, "n": 50},
            "perplexity": {"base": {"value": 10.0}, "dpo": {"value": 12.0}},
            **changes.pop("probe", {}),
        },
        "figures": {"dpo": {"beta": 0.1, "validation_reward_gap": 1.5, "validation_accuracy": 0.8}},
        "stages": {"dpo": {"watch": {"sentence": "Healthy: the gap grows on both sides.", "findings": []}}},
        "warnings": [{"name": "order", "text": "verdicts change with the order"}],
        **changes,
    }


def kl(value: float, half: float) -> dict[str, Any]:
    return {"value": value, "low": value - half, "high": value + half, "n": 50}


def sentences(text: str) -> list[str]:
    body = text.split("\n", 1)[1]
    return [part.strip() for part in re.split(r"(?<=\))\.(?:\s+|$)", body) if part.strip()]


def look_up(report: dict[str, Any], path: str) -> Any:
    node: Any = report
    for part in path.split("."):
        if isinstance(node, list):
            node = node[int(part)] if part.isdigit() else next(row for row in node if row["metric"] == part)
        else:
            node = node[part]
    return node


def check_links(found: dict[str, Any]) -> list[str]:
    said = sentences(reflection(found))
    for sentence in said:
        links = LINK.findall(sentence)
        assert links, f"rests on no figure: {sentence}"
        for link in links:
            look_up(found, link)
    return said


def test_every_sentence_links_to_a_figure_that_exists() -> None:
    assert len(check_links(report())) >= 9
    assert len(check_links(report("worse"))) >= 9


def test_the_reflection_of_a_real_run_links_to_its_own_report(finished: Path) -> None:
    found = read_json(finished / "report" / "report.json")
    assert len(check_links(found)) >= 4
    assert (finished / "report" / "reflection.md").read_text() == reflection(found)
    assert Project(finished).artifact("report").file("reflection.md").is_file()


def test_its_length_is_about_three_hundred_words() -> None:
    text = reflection(report("worse", probe={"kl_from_reference": kl(0.1, 0.05)}))
    words = re.sub(r"\[[^\]]+\]\([^)]*\)", "", text).split()
    assert 120 <= len(words) <= 360


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({}, "the preference data was off"),
        ({"probe": {"kl_from_reference": kl(0.1, 0.05)}}, "β 0.1 is too high"),
        ({"probe": {"kl_from_reference": kl(90.0, 9.0)}}, "β 0.1 is too low"),
        ({"probe": {"implicit_reward_accuracy": kl(0.5, 0.13)}}, "better than by a coin is not shown (50% of 50)"),
        ({"states": {"inconsistent": 60}}, "the judge is noisy"),
    ],
)
def test_where_dpo_failed_it_says_so_and_what_the_figures_suggest(changes: dict[str, Any], cause: str) -> None:
    text = reflection(report("worse", **changes))
    assert "DPO failed" in text
    assert cause in text
    assert cause not in reflection(report("better", **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"probe": {"kl_from_reference": kl(0.1, 3.0)}},
        {"probe": {"kl_from_reference": kl(30.0, 20.0)}},
        {"states": {"win": 3, "loss": 3, "tie": 0, "inconsistent": 3}},
    ],
)
def test_no_cause_is_drawn_from_a_point_that_its_interval_does_not_bear_out(changes: dict[str, Any]) -> None:
    text = reflection(report("worse", **changes))
    for cause in ("too high", "too low", "is noisy"):
        assert cause not in text


def test_a_comparison_without_an_interval_is_not_called_no_difference() -> None:
    found = report("undefined")
    found["pairwise"]["dpo_vs_sft"] |= {"low": None, "high": None}
    found["table"][1]["word"] = "undefined"
    text = reflection(found)
    assert "No difference was shown" not in text
    assert "no difference was shown" not in text
    assert "So few prompts say nothing" in text
    assert "In `length` the difference is undefined" in text


def test_many_warnings_do_not_make_the_page_long() -> None:
    found = report("worse", warnings=[{"name": f"w{n}", "text": "words " * 20} for n in range(9)])
    text = reflection(found)
    assert "6 more warnings stand in the report: w3, w4" in text
    assert len(re.sub(r"\[[^\]]+\]\([^)]*\)", "", text).split()) <= 420


def test_no_difference_is_called_that_with_what_could_have_been_seen() -> None:
    text = reflection(report("no difference shown (could have seen ±0.140)"))
    assert "No difference was shown" in text
    assert "a difference of 14.0% would have been seen" in text
