"""`report.json`, the interface for other programs: its published form; and the page for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fairlead import Project
from fairlead.documents.report import Report
from fairlead.errors import ArtifactError
from fairlead.files import dump_json, read_json
from fairlead.report.markdown import markdown
from fairlead.report.training_plot import draw
from fairlead.training.diagnosis.curves import Curves
from fairlead.training.measurements import read_metrics
from tests.support.reports import DEMO_REPORT, demo_report, stored_report


def test_a_report_of_the_version_before_is_read_and_written_back_equal(tmp_path: Path) -> None:
    report = Report.read(DEMO_REPORT)
    report.write(tmp_path / "report.json")
    assert read_json(tmp_path / "report.json") == stored_report()


def test_the_published_fields_are_those_of_the_version_before(finished: Path) -> None:
    """Names only: what a run measured is its own. Demo and test project have other stages and metrics."""
    before, now = stored_report(), read_json(finished / "report" / "report.json")
    assert before.keys() | {"arms", "differences"} == now.keys()
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


def test_the_page_begins_with_what_somebody_asks_who_has_to_decide() -> None:
    page = markdown(demo_report(), "the samples", curves="training.svg")
    opening = page.split("## Comparison", 1)[0]
    assert "- **Is it better?** Yes: DPO's answers are better than those of SFT" in opening
    assert "Win rate over SFT 58.8% [57.2%, 60.6%], n 500" in opening
    assert "`severity_match` +0.174 [+0.143, +0.210]" in opening
    assert "- **At what cost?** Training: SFT 11 s, DPO 22 s. Judge: no language model was asked." in opening
    assert "- **What to do?** The gate passed: release dpo." in opening
    order = ("## Comparison", "## Gate", "(training.svg)", "## Decision", "as given | base", "## Samples", "## Lineage")
    places = [page.index(text) for text in order]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("worse", "No: DPO's answers are worse than those of SFT"),
        ("no difference shown (could have seen ±0.024)", "Not shown: no difference to SFT in either direction"),
        ("undefined", "Not known: so few prompts"),
    ],
)
def test_the_page_calls_a_dpo_that_did_not_win_by_its_name(word: str, answer: str) -> None:
    pairwise = stored_report()["pairwise"]
    pairwise["dpo_vs_sft"]["word"] = word
    assert answer in markdown(demo_report(pairwise=pairwise), "")


def test_a_difference_without_an_interval_is_not_called_no_difference() -> None:
    table = stored_report()["table"]
    table[0]["word"] = "undefined"
    page = markdown(demo_report(table=table), "")
    assert "No difference shown: `service_match`, `keywords`. Undefined: `format`." in page


def test_a_gate_that_did_not_pass_says_what_is_not_met() -> None:
    gate = stored_report()["gate"]
    gate |= {"status": "failed", "advice": "release sft, drop dpo"}
    gate["criteria"][0] |= {"status": "failed", "value": 0.481}
    page = markdown(demo_report(gate=gate), "")
    assert "The gate failed: release sft, drop dpo. Not met: `pairwise.dpo_vs_sft.low` above 0.5 (found 0.481)." in page


def test_what_the_judge_took_is_named_with_its_cost() -> None:
    figures = stored_report()["figures"]
    figures["judge"]["asked"] = {"replies": 3000, "input_tokens": 1200000, "output_tokens": 9000, "cost": 3.5}
    figures["eval"]["asked"] = {"replies": 1000, "input_tokens": 400000, "output_tokens": 3000, "cost": 1.25}
    name = "openai:gpt-4.1:pairwise-1a,score-2b,correction-3c:0123abcd"
    page = markdown(demo_report(figures=figures, judge=name), "")
    assert "Judge: 4,000 replies, 1,600,000 tokens read, 12,000 written, cost 4.75." in page
    assert "| comparison | 1,000 | 400,000 | 3,000 | 1.25 |" in page
    assert "judge `openai:gpt-4.1`," in page
    assert f"`openai:gpt-4.1` is `{name}`." in page


def test_the_curves_are_drawn_beside_the_page_and_again_the_same(finished: Path, tmp_path: Path) -> None:
    curves = Curves.from_metrics(read_metrics(Project(finished).artifact("dpo").file("metrics.jsonl")))
    assert draw(curves, tmp_path / "again.svg")
    picture = (finished / "report" / "training.svg").read_text()
    assert picture == (tmp_path / "again.svg").read_text()
    for text in ("reward gap of chosen over rejected", "KL from the reference, nats per answer", "validation"):
        assert text in picture
    assert not draw(Curves.from_metrics([{"step": 1}]), tmp_path / "none.svg")
    assert not (tmp_path / "none.svg").exists()
