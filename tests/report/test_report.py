"""`report.json`, the interface for other programs: its published form; and the page for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fairlead.documents.report import Report
from fairlead.errors import ArtifactError
from fairlead.files import dump_json, read_json
from fairlead.report.markdown import markdown
from tests.support.reports import DEMO_REPORT, demo_report, stored_report


def test_a_report_of_the_version_before_is_read_and_written_back_equal(tmp_path: Path) -> None:
    report = Report.read(DEMO_REPORT)
    report.write(tmp_path / "report.json")
    assert read_json(tmp_path / "report.json") == stored_report()


def test_the_published_fields_are_those_of_the_version_before(finished: Path) -> None:
    """Names only: what a run measured is its own. Demo and test project have other stages and metrics."""
    before, now = stored_report(), read_json(finished / "report" / "report.json")
    assert before.keys() == now.keys()
    assert before["table"][0].keys() == now["table"][0].keys()
    assert before["table"][0]["sft_over_base"].keys() == now["table"][0]["sft_over_base"].keys()
    for part in ("pairwise", "answers"):
        fields = {frozenset(figures) for figures in (*before[part].values(), *now[part].values())}
        assert len(fields) == 1
    assert before["gate"].keys() == now["gate"].keys()
    assert before["judgements"].keys() == now["judgements"].keys()
    assert before["stages"]["dpo"].keys() == now["stages"]["dpo"].keys()


def test_a_field_that_nobody_published_is_refused() -> None:
    with pytest.raises(ValueError, match="surprise"):
        demo_report(surprise=1)


def test_a_report_that_was_edited_is_one_line(tmp_path: Path) -> None:
    content: dict[str, Any] = stored_report()
    content["table"][0]["dpo"] = "high"
    (tmp_path / "report.json").write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match=r"table\.0\.dpo does not fit"):
        Report.read(tmp_path / "report.json")


def test_the_page_does_not_depend_on_the_order_in_which_metrics_come() -> None:
    """Metrics of a stage that has just run come in their own order, those read from a manifest by name."""
    content = stored_report()
    backwards = {stage: dict(reversed(figures.items())) for stage, figures in content["figures"].items()}
    assert dump_json(backwards) == dump_json(content["figures"])
    assert markdown(demo_report(figures=backwards), "") == markdown(demo_report(), "")


def test_the_page_shows_no_python() -> None:
    page = markdown(demo_report(), "")
    assert "counts | empty 4, identical 434, pairs 1528, tie 324 |" in page
    for python in ("{'", "['", "None", "True"):
        assert python not in page


def test_the_projects_name_is_text_and_not_html() -> None:
    page = markdown(demo_report(name="<script>x</script> *a*\x1b[2J"), "")
    assert page.startswith("# &lt;script&gt;x&lt;/script&gt; \\*a\\*")
    assert "\x1b" not in page
