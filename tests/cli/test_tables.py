"""What people read in a terminal of 80 columns: tables fit, figures are whole and rounded, no Python is shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from rich.cells import cell_len

from fairlead import Project
from fairlead.cli import data, render
from fairlead.cli.common import count_text, interval_text, show_table
from fairlead.cli.judges import ledger
from fairlead.documents.evaluation import EvalResult
from fairlead.llm.store.reply_store import Totals
from tests.support.reports import demo_report, stored_report

WIDTH = 80
PYTHON = re.compile(r"\bNone\b|\bTrue\b|\bFalse\b|[{\[]'|Interval\(|\.0*[1-9]\d{5,}")


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))


def tables(text: str) -> list[list[str]]:
    """The lines of each table: from the line above a rule to the next blank one."""
    lines = text.splitlines()
    starts = [n - 1 for n, line in enumerate(lines) if line and not line.strip("─")]
    ends = [next((m for m in range(start, len(lines)) if not lines[m].strip()), len(lines)) for start in starts]
    return [lines[start:end] for start, end in zip(starts, ends, strict=True)]


def check(text: str, count: int) -> list[list[str]]:
    """Asserts that there are so many tables, that they fit, and that nothing in the text is Python's."""
    printed = tables(text)
    assert len(printed) == count, text
    too_wide = [line for table in printed for line in table if cell_len(line.rstrip()) > WIDTH]
    assert too_wide == []
    assert PYTHON.findall(text) == []
    return printed


def test_the_tables_of_a_finished_project_fit(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = Project(finished)
    render.show_status(project.status())
    check(capsys.readouterr().out, 1)
    render.show_report(finished)
    comparison, pairs, gate = check(capsys.readouterr().out, 3)
    assert comparison[0].split("  ")[0] == "metric"
    assert any(re.search(r"\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]", line) for line in pairs), "intervals stay whole"
    assert gate[0].split() == ["figure", "demanded", "found", "status"]
    render.show_comparison(EvalResult.read(project.artifact("eval").file("comparison.json")))
    check(capsys.readouterr().out, 2)
    with pytest.raises(typer.Exit):
        data.check(str(project.artifact("pairs").file("train.jsonl")))
    check(capsys.readouterr().out, 1)


def test_a_table_with_missing_verdicts_and_long_names_fits(capsys: pytest.CaptureFixture[str]) -> None:
    content = stored_report()
    content["table"][1] |= {"metric": "a metric whose name is rather long for a table", "missing": 12}
    content["pairwise"]["dpo_vs_sft"] |= {"missing": 40, "worst": 0.51, "best": 0.66}
    report = demo_report(**{name: content[name] for name in ("table", "pairwise")})
    render.show_tables(report.table, report.pairwise, report.warnings)
    text = capsys.readouterr().out
    comparison, pairs = check(text, 2)
    assert any("+0.174 [+0.143, +0.210]" in line and line.rstrip().endswith("12") for line in comparison)
    assert any("[0.510, 0.660]" in line for line in pairs)
    assert "none (±x): no difference shown" in text


def test_the_ledger_names_models_shortly_and_endpoints_below(capsys: pytest.CaptureFixture[str]) -> None:
    def totals(model: str, endpoint: str) -> Totals:
        return Totals(model, endpoint, "pairwise", 123456, 123450, 98765432, 1234567, 123456, 9, 12.3456789, 1.23456)

    long = "https://a-gateway-with-a-long-name.example.org/openai/v1/chat/completions"
    rows = [totals("organisation/a-model-70b-instruct", long), totals("a-model-70b-instruct", "http://localhost:8000")]
    ledger.show_totals(rows, as_json=False)
    text = capsys.readouterr().out
    (table,) = check(text, 1)
    assert any("98.8 M" in line and "12.35" in line for line in table)
    assert f"a-model-70b-instruct (1): organisation/a-model-70b-instruct at {long}" in text


def test_a_column_without_entries_is_left_out_and_words_are_broken(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(("name", "empty", "value"), [("x" * 100, "", "1.000 [0.000, 2.000]")], words=("name",))
    (table,) = check(capsys.readouterr().out, 1)
    assert "empty" not in table[0]
    assert any("1.000 [0.000, 2.000]" in line for line in table)
    show_table(("name",), [])
    assert capsys.readouterr().out == ""


def test_figures_are_rounded() -> None:
    assert interval_text(0.61234, 0.5, None) == "0.612"
    assert interval_text(0.61234, 0.5, 0.70001) == "0.612 [0.500, 0.700]"
    assert interval_text(None, None, None) == "—"
    assert [count_text(n) for n in (None, 0, 12345, 1234567)] == ["—", "0", "12,345", "1.23 M"]
