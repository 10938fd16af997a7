"""The checks of SFT rows and prompts: each finds its fault at the right rows, as a command and as a stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fairlead import Project
from fairlead.config.data import CHECK_NAMES, DataCheckSettings
from fairlead.data.checks.row_quality import check_rows
from fairlead.documents.data_check import DataCheck, RowsCheck
from fairlead.errors import DataError
from fairlead.files import read_json, write_jsonl
from fairlead.records import DropReason, Example, Prompt
from tests.support.projects import tiny_config, write_config

SUBJECTS = ["disk", "cache", "queue", "router", "socket", "parser", "kernel", "mailer", "broker", "ledger"]
TEXT = "the connection pool of the order service is exhausted and nobody knows why it happens on Mondays"


def examples() -> list[Example]:
    return [
        Example(Prompt.of(f"What broke in the {one}, {n}?", cluster=one), f"The {one} did.")
        for n, one in enumerate(SUBJECTS)
    ]


def check(rows: list[Any], **options: Any) -> DataCheck:
    places = [str(n) for n in range(1, len(rows) + 1)]
    is_sft = isinstance(rows[0], Example)
    settings = options.pop("settings", DataCheckSettings())
    return check_rows(
        rows, places, settings, source="a", similarity=0.8, mend="drop {}".format, is_sft=is_sft, **options
    )


def test_clean_rows_pass_every_check_that_there_is_for_them() -> None:
    options: dict[str, Any] = {"eval_texts": ["Something else?"], "tokens": lambda row: 1, "max_length": 1}
    of_pairs_alone = {"identical", "equal_ratings", "contradictory", "length", "margins", "rows"}
    of_examples = check(examples(), **options)
    assert {f.check: f.status for f in of_examples.findings} == dict.fromkeys(
        [name for name in CHECK_NAMES if name not in of_pairs_alone], "pass"
    )
    of_prompts = check([example.prompt for example in examples()], **options)
    assert {f.check for f in of_examples.findings} - {f.check for f in of_prompts.findings} == {"truncated"}
    assert (of_examples.status, of_prompts.status) == ("pass", "pass")


ENGLISH = "What is the reason for this and how can it be that it is not on?"
GERMAN = "Der Grund ist nicht klar und das ist für die Leute nicht gut."


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("empty", Example(Prompt.of("What?"), " ")),
        ("exact_duplicates", examples()[2]),
        ("near_duplicates", Example(Prompt.of(f"Truly, {TEXT}?"), "Restart it.")),
        ("truncated", Example(Prompt.of("Why?"), f"{TEXT}, and then")),
        ("looping", Example(Prompt.of("Why?"), "it is full. " * 9)),
        ("template_tokens", Example(Prompt.of("Why?"), "Yes.<|im_end|>")),
        ("mixed_languages", Example(Prompt.of(ENGLISH), GERMAN)),
        ("secrets", Example(Prompt.of("Use AKIAABCDEFGHIJKLMNOP."), "No.")),
        ("email_addresses", Example(Prompt.of("Why?"), "Ask ann@company.org.")),
        ("eval_overlap", Example(Prompt.of("held out"), "No.")),
        ("too_long", Example(Prompt.of("Why?"), "x" * 1000)),
    ],
)
def test_a_fault_is_found_at_its_row_with_what_mends_it(name: str, row: Example) -> None:
    rows = [*examples(), Example(Prompt.of(f"Really, {TEXT}?"), "Restart it."), row]
    report = check(rows, eval_texts=["held out"], tokens=lambda r: len(r.answer), max_length=999)
    (finding,) = [finding for finding in report.findings if finding.check == name]
    assert (finding.rows, finding.remedy) == ((str(len(rows)),), f"drop {name}")
    assert finding.status in ("warn", "fail")
    assert "AKIA" not in repr(report)


def test_a_prompt_in_another_language_than_most_is_found() -> None:
    prompts = [Prompt.of(f"{ENGLISH} {n}") for n in range(3)] + [Prompt.of(GERMAN)]
    (finding,) = [finding for finding in check(prompts).findings if finding.check == "mixed_languages"]
    assert (finding.rows, finding.figures["kinds"]) == (("4",), {"German, and most are in English": 1})


def test_what_reading_left_out_is_counted_where_it_is_a_fault() -> None:
    dropped = [("11", DropReason.EMPTY_ANSWER), ("12", DropReason.NOT_TRAINED_ON), ("13", DropReason.ONLY_TOOL_CALLS)]
    rows = {finding.check: finding.rows for finding in check(examples(), dropped=dropped).findings}
    assert (rows["empty"], rows["unusable"]) == (("11",), ("13",))


def sft_with_a_secret(folder: Path) -> dict[str, Any]:
    rows = [{"prompt": f"report {n} of the {one}", "answer": f"low {n}"} for n, one in enumerate(SUBJECTS * 2)]
    rows[3]["answer"] = "AKIAABCDEFGHIJKLMNOP"
    write_jsonl(folder / "sft.jsonl", rows)
    return tiny_config()


def test_sft_rows_that_fail_a_check_are_not_trained_on_until_it_is_waived(tiny_project: Path) -> None:
    config = sft_with_a_secret(tiny_project)
    write_config(tiny_project, config)
    with pytest.raises(
        DataError, match=r"the SFT rows fail these checks: secrets \(1 rows\).*data clean .*sft.jsonl --drop secrets"
    ):
        Project(tiny_project).run("sft")
    waive = {**config["data_check"]["waive"], "secrets": "AWS's own example key"}
    write_config(tiny_project, config | {"data_check": {"waive": waive}})
    made = Project(tiny_project).run("rows_check")["rows_check"]
    assert made.manifest.figures["waived"]["sft secrets"] == "AWS's own example key"
    record = RowsCheck.read(made.file("rows_check.json"))
    assert record.sft is not None
    assert record.prompts is not None
    assert "AKIA" not in str(read_json(made.file("rows_check.json")))


def test_rows_longer_than_sfts_max_length_are_said_before_training(tiny_project: Path) -> None:
    config = tiny_config()
    config["sft"]["max_length"] = 4
    write_config(tiny_project, config)
    with pytest.raises(DataError, match=r"fail these checks: too_long .*raise sft.max_length, or shorten the rows"):
        Project(tiny_project).run("rows_check")
