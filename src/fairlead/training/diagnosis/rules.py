"""What the curves of a DPO training mean: every rule recognises one failure mode and proposes a remedy.

Pure functions on the rows of `metrics.jsonl`. A rule whose metrics were not measured says nothing. `docs/diagnosis.md`
explains the thresholds and shows how often each rule is right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fairlead.config.monitoring import Thresholds
from fairlead.documents.diagnosis import NO_ALARM, Diagnosis, FailureMode, Finding, alarms
from fairlead.training.diagnosis.curves import Curves, last
from fairlead.training.diagnosis.drift_rules import (
    degenerate_samples,
    forgetting,
    kl_spike,
    length_exploitation,
    log_probabilities_fall,
)
from fairlead.training.diagnosis.input_rules import formatting, label_noise, not_a_number
from fairlead.training.diagnosis.learning_rules import (
    loss_not_falling,
    overfitting,
    too_aggressive,
    too_conservative,
)
from fairlead.training.measurements import Metrics, number

RULES: tuple[Callable[[Curves, Thresholds], Finding | None], ...] = (
    not_a_number,
    formatting,
    kl_spike,
    degenerate_samples,
    label_noise,
    length_exploitation,
    overfitting,
    log_probabilities_fall,
    forgetting,
    loss_not_falling,
    too_conservative,
    too_aggressive,
)
"""All rules, those of the gravest failure modes first."""

# Failure modes that follow from another one, and are left out beside an alarm of it.
EXPLAINS: Mapping[FailureMode, tuple[FailureMode, ...]] = {
    "formatting": ("label_noise", "loss_not_falling", "too_conservative"),
    "label_noise": ("loss_not_falling", "overfitting", "too_conservative"),
    "kl_spike": ("label_noise", "too_conservative"),
}


def diagnose(rows: Sequence[Metrics], thresholds: Thresholds | None = None) -> list[Finding]:
    """All findings, the gravest first; a failure mode that another one explains is left out.

    Args:
        rows: of a `metrics.jsonl`, as far as it goes.
    """
    curves, limits = Curves.from_metrics(rows), thresholds or Thresholds()
    findings = [finding for rule in RULES if (finding := rule(curves, limits)) is not None]
    explained = {effect for cause in alarms(findings) for effect in EXPLAINS.get(cause.rule, ())}
    return [finding for finding in findings if finding.rule not in explained]


def sentence(rows: Sequence[Metrics], findings: Sequence[Finding]) -> str:
    """The present state in one line: the gravest alarm, or that there is none, with the metrics that say so."""
    if grave := alarms(findings):
        return grave[0].line
    curves = Curves.from_metrics(rows)
    metrics = []
    if (gap := curves.last_validation_gap) is not None:
        metrics.append(f"validation gap {gap:.3g}")
    if (kl := curves.last_kl) is not None:
        metrics.append(f"KL {kl:.3g} nats per answer")
    state = NO_ALARM + (f": {', '.join(metrics)}" if metrics else "")
    return "; ".join([state, *(finding.line for finding in findings if finding.severity == "advice")])


def diagnosis(rows: Sequence[Metrics], thresholds: Thresholds | None = None) -> Diagnosis:
    """The document of a training as far as its log goes."""
    findings = diagnose(rows, thresholds)
    return Diagnosis(
        sentence=sentence(rows, findings),
        findings=findings,
        kl=last(number(row.get("watch/kl")) for row in rows),
        kl_error=last(number(row.get("watch/kl_error")) for row in rows),
        share=last(number(row.get("watch/share")) for row in rows),
    )
