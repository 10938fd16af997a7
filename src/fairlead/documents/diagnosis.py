"""`diagnosis.json`, beside the `metrics.jsonl` of a DPO training: what its curves mean and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from fairlead.documents.base import Document

DIAGNOSIS = "diagnosis.json"
NO_ALARM = "no alarm"  # how the sentence of a training begins that has none

FailureMode = Literal[
    "not_a_number",
    "formatting",
    "loss_not_falling",
    "overfitting",
    "too_conservative",
    "too_aggressive",
    "forgetting",
    "kl_spike",
    "log_probabilities_fall",
    "length_exploitation",
    "label_noise",
    "degenerate_samples",
]
Severity = Literal["alarm", "advice", "note"]
ConfigValue = bool | float | int | str | list[str] | None


class Finding(Document):
    """One thing that the metrics of a training show.

    Attributes:
        rule: name of the failure mode, and of the rule that recognises it.
        severity: an alarm says that something is wrong; advice that nothing is, yet more could be gained; a note that
            what looks odd is normal.
        evidence: the metrics, in words.
        meaning: what they say of the training.
        remedy: what to do, in words.
        keys: the same as keys of `fairlead.yaml` with values to try.
    """

    rule: FailureMode
    severity: Severity
    evidence: str
    meaning: str
    remedy: str
    keys: dict[str, ConfigValue] = Field(default_factory=dict)

    @property
    def line(self) -> str:
        """One line for a terminal or a report."""
        keys = ", ".join(f"{key}: {as_yaml(value)}" for key, value in self.keys.items())
        return f"{self.rule.replace('_', ' ')}: {self.evidence}; {self.meaning} — {self.remedy}" + (
            f" ({keys})" if keys else ""
        )


class Diagnosis(Document):
    """All findings of a training, and the metrics that are shown beside them.

    Attributes:
        sentence: the present state in one line.
        findings: the gravest first.
        kl: nats per answer from the reference at the last sample check, by `models.kl`; None where there was none.
        kl_error: standard error of `kl`.
        share: share of the training's time that validation and sample checks took.
    """

    sentence: str
    findings: list[Finding]
    kl: float | None
    kl_error: float | None
    share: float | None


def alarms(findings: Sequence[Finding]) -> list[Finding]:
    """Findings that are alarms."""
    return [finding for finding in findings if finding.severity == "alarm"]


def actionable(findings: Sequence[Finding]) -> list[Finding]:
    """Findings that call for a change: alarms and advice."""
    return [finding for finding in findings if finding.severity != "note"]


def as_yaml(value: ConfigValue) -> str:
    """A value as it is written in YAML."""
    if value is None:
        return "null"
    if isinstance(value, list):
        return "[" + ", ".join(map(str, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
