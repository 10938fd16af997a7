"""What the report says of how the training was monitored."""

from __future__ import annotations

from fairlead.documents.diagnosis import Diagnosis
from fairlead.documents.report import Figures
from fairlead.report.markdown import diagnosis_markdown


def test_the_report_says_what_the_watch_did_and_nothing_where_it_only_looked_on() -> None:
    seen = Diagnosis(sentence="overfitting: the gap fell", findings=[], kl=None, kl_error=None, share=0.061)
    acted: Figures = {"steps": 75, "stopped_on": "overfitting", "kept_step": 50, "kept_gap": 1.234, "kept_kl": 2.5}
    assert diagnosis_markdown(seen, acted) == (
        "Diagnosis: overfitting: the gap fell. Watching took 6.1% of the training's time. The watch stopped at step "
        "75 on overfitting; kept step 50, validation gap 1.23, KL 2.5 nats per answer."
    )
    none: Figures = {"steps": 75, "stopped_on": None, "kept_step": None, "kept_gap": None, "kept_kl": None}
    assert "The watch" not in diagnosis_markdown(seen, none)
    assert "KL not measured" in diagnosis_markdown(seen, {**acted, "kept_kl": None})
