"""`reflection.md`: every sentence from figures that it names; a DPO that failed is called one; no link is dead."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from fairlead import Project
from fairlead.documents.report import Report
from fairlead.escape import printable
from fairlead.files import read_jsonl
from fairlead.report.summary import reflection
from tests.support.reports import demo_report, stored_report

SIZES = {"sft": 100.0, "dpo": 130.0}
NOT_SHOWN = "no difference shown (could have seen ±0.100)"
SENTENCE = re.compile(r"(.+?) \[(\d+)\]\.(?:\s+|$)", re.DOTALL)


def report(word: str = "better", **changes: Any) -> Report:
    """The stored report with one pair, two metrics and a drift of its own, and `changes` of its fields."""
    content = stored_report()
    states = {"win": 60, "loss": 30, "tie": 10, "inconsistent": 0, "unreadable": 0, "refused": 0, "failed": 0}
    pair = {**content["pairwise"]["dpo_vs_sft"], "win_rate": 0.65, "low": 0.55, "high": 0.74, "n": 100, "word": word}
    pair |= {"detectable": 0.14, "missing": 0, "worst": 0.65, "best": 0.65, "states": states}
    pair["states"] = {**states, **changes.pop("states", {})}
    row = {
        **content["table"][0],
        "base": 0.1,
        "sft": 0.6,
        "dpo": 0.8,
        "delta": 0.2,
        "delta_low": 0.1,
        "delta_high": 0.3,
    }
    row |= {"word": "better"}
    status = {"better": "passed"}.get(word, "failed")
    advice = "release dpo" if status == "passed" else "release sft, drop dpo"
    diagnosis = {"sentence": "Healthy: the gap grows on both sides.", "findings": []}
    stages = content["stages"]
    stages["dpo"]["watch"] |= diagnosis
    answers = {model: {**content["answers"][model], "mean_characters": size} for model, size in SIZES.items()}
    drift = {
        "implicit_reward_accuracy": {"value": 0.8, "low": 0.67, "high": 0.89, "n": 50, "method": "Wilson"},
        "kl_from_reference": kl(3.0, 0.5),
        "perplexity": {"base": kl(10.0, 1.0), "dpo": kl(12.0, 1.0)},
        **changes.pop("probe", {}),
    }
    return demo_report(
        **{
            "gate": {**content["gate"], "status": status, "advice": advice},
            "pairwise": {"dpo_vs_sft": pair | changes.pop("pair", {})},
            "table": [row, {**row, "metric": "length", "word": changes.pop("second", NOT_SHOWN)}],
            "answers": answers,
            "probe": drift,
            "figures": {"dpo": {"beta": 0.1, "validation_reward_gap": 1.5, "validation_accuracy": 0.8}},
            "stages": stages,
            "warnings": [{"name": "order", "text": "verdicts change with the order"}],
            **changes,
        }
    )


def kl(value: float, half: float) -> dict[str, Any]:
    return {"value": value, "low": value - half, "high": value + half, "n": 50, "method": "t"}


def prose(text: str) -> str:
    """The page without its heading, its examples and the list of figures."""
    return text.split("\n", 1)[1].split("\n## ", 1)[0].strip()


def figures(text: str) -> dict[int, list[str]]:
    """The paths under each number at the end of the page."""
    lines = text.split("## Figures\n", 1)[1].splitlines()
    numbered = (re.fullmatch(r"(\d+)\. (.+)", line) for line in lines)
    return {int(match[1]): re.findall(r"`([^`]+)`", match[2]) for match in numbered if match}


def look_up(report: dict[str, Any], path: str) -> Any:
    node: Any = report
    for part in path.split("."):
        if isinstance(node, list):
            node = node[int(part)] if part.isdigit() else next(row for row in node if row["metric"] == part)
        else:
            node = node[part]
    return node


def check_figures(checked: Report) -> list[str]:
    """Follows the number of every sentence to its figures in the report; returns the sentences."""
    text = reflection(checked)
    content = checked.model_dump(mode="json")
    paths = figures(text)
    numbered = SENTENCE.findall(prose(text))
    assert "".join(SENTENCE.split(prose(text))[::3]).strip() == "", "a sentence rests on no figure"
    assert {int(number) for _, number in numbered} == set(paths)
    for of_sentence in paths.values():
        assert of_sentence
        for path in of_sentence:
            look_up(content, path)
    return [sentence for sentence, _ in numbered]


def test_every_sentence_names_figures_that_exist() -> None:
    assert len(check_figures(report())) >= 9
    assert len(check_figures(report("worse"))) >= 9


def test_the_summary_of_a_real_run_has_its_figures_its_examples_and_no_dead_link(finished: Path) -> None:
    loaded_report = Report.read(finished / "report" / "report.json")
    assert len(check_figures(loaded_report)) >= 4
    text = (finished / "report" / "reflection.md").read_text()
    assert text.startswith(reflection(loaded_report).split("\n## ", 1)[0])
    verdicts = read_jsonl(Project(finished).artifact("eval").file("verdicts.jsonl"))
    judged = {(row["pair"], row["state"]) for _, row in verdicts}
    assert ("## What it did:" in text) == (("dpo_vs_sft", "win") in judged)
    assert ("## What it didn't:" in text) == (("dpo_vs_sft", "loss") in judged)
    assert Project(finished).artifact("report").file("reflection.md").is_file()
    for page in ("reflection.md", "report.md"):
        links = re.findall(r"\]\(([^)]+)\)", (finished / "report" / page).read_text())
        assert links
        for link in links:
            assert (finished / "report" / link).is_file(), f"{page} links to {link}"


def test_its_length_is_about_three_hundred_words() -> None:
    text = reflection(report("worse", probe={"kl_from_reference": kl(0.1, 0.05)}))
    assert 120 <= len(prose(text).split()) <= 360


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
    text = reflection(report("undefined", pair={"low": None, "high": None}, second="undefined"))
    assert "No difference was shown" not in text
    assert "no difference was shown" not in text
    assert "So few prompts say nothing" in text
    assert "In `length` the difference is undefined" in text


def test_many_warnings_do_not_make_the_page_long() -> None:
    loaded_report = report("worse", warnings=[{"name": f"w{n}", "text": "words " * 20} for n in range(9)])
    text = reflection(loaded_report)
    assert "6 more warnings stand in the report: w3, w4" in text
    assert len(prose(text).split()) <= 420


def test_no_difference_is_called_that_with_what_could_have_been_seen() -> None:
    text = reflection(report("no difference shown (could have seen ±0.140)"))
    assert "No difference was shown" in text
    assert "a difference of 14.0% would have been seen" in text


def test_no_cause_is_named_where_the_comparison_leaves_open_whether_dpo_helped() -> None:
    """The pairs were learnt for certain; that answers got no better is not shown, for the prompts are too few."""
    text = reflection(report("no difference shown (could have seen ±0.140)", pair={"low": 0.44, "high": 0.74}))
    assert "preference data was off" not in text
    assert "DPO did not do what it was meant to" not in text
    assert "No cause is named, because no interval excludes that there is none" in text


def test_held_out_pairs_that_may_be_told_apart_are_not_said_to_contradict_each_other() -> None:
    text = reflection(report("worse", probe={"implicit_reward_accuracy": kl(0.55, 0.13)}))
    assert "contradict" not in text
    assert "whether the pairs taught anything is open" in text
    certain = reflection(report("worse", probe={"implicit_reward_accuracy": kl(0.3, 0.13)}))
    assert "told apart worse than by a coin (30% of 50, at most 43%): they contradict the pairs" in certain


def test_the_name_of_a_metric_does_nothing_in_the_reflection() -> None:
    """Neither on a terminal nor as Markdown, also in the names of its figures."""
    hostile = "a|b`c`\n# <b>x</b>\x1b[2J\u202e](http://example.org)*z*"
    content = report().model_dump(mode="json")
    content["table"][0]["metric"] = hostile
    text = reflection(Report.model_validate(content))
    assert "rose from 0.600 to 0.800" in text
    assert printable(text) == text
    assert "\n# <b>" not in text
    assert [line for line in text.splitlines() if "`table.a¦b’c’ # <b>x</b>" in line]
    outside_code = re.sub(r"(?<!\\)`[^`]*`", "", text)
    assert re.search(r"(?<!\\)\]\(http", outside_code) is None
