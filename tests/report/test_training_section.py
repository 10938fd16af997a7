"""What the report says of how the training was monitored."""

from __future__ import annotations

from fairlead.documents.diagnosis import Diagnosis
from fairlead.documents.report import Figures
from fairlead.report.markdown import diagnosis_markdown


def test_the_report_says_what_the_monitor_did_and_nothing_where_it_only_measured() -> None:
    seen = Diagnosis(sentence="overfitting: the gap fell", findings=[], kl=None, kl_error=None, share=0.061)
    acted: Figures = {"steps": 75, "stopped_on": "overfitting", "kept_step": 50, "kept_gap": 1.234, "kept_kl": 2.5}
    assert diagnosis_markdown(seen, acted) == (
        "Diagnosis: overfitting: the gap fell. Monitoring took 6.1% of the training's time. "
        "Training was stopped at step 75 because of overfitting. The weights of step 50 were kept: validation gap "
        "1.23, KL 2.5 nats per answer."
    )
    none: Figures = {"steps": 75, "stopped_on": None, "kept_step": None, "kept_gap": None, "kept_kl": None}
    assert diagnosis_markdown(seen, none) == (
        "Diagnosis: overfitting: the gap fell. Monitoring took 6.1% of the training's time."
    )
    assert "KL not measured" in diagnosis_markdown(seen, {**acted, "kept_kl": None})
