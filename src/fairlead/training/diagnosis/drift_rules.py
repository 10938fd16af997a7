"""Rules on the policy's drift: KL spikes, degenerate samples, forgetting, length."""

from __future__ import annotations

import math

from fairlead.config.monitoring import Thresholds
from fairlead.documents.diagnosis import Finding
from fairlead.training.diagnosis import remedies
from fairlead.training.diagnosis.conditions import FEWEST_PAIRS
from fairlead.training.diagnosis.curves import Curves, known, last
from fairlead.training.diagnosis.remedies import advise
from fairlead.training.measurements import SampleStatistics

SPIKE_STEPS = 5  # logged steps over which a loss is averaged before it counts as a spike


def kl_spike(curves: Curves, limits: Thresholds) -> Finding | None:
    """KL per token or the loss rises suddenly."""
    evidence = []
    per_token = max(known(check.kl.kl_token for check in curves.checks), default=None)
    if per_token is not None and per_token > limits.kl_per_token:
        evidence.append(f"KL reached {per_token:.2f} nats per token (limit {limits.kl_per_token:g})")
    losses = curves.losses
    width = max(1, min(SPIKE_STEPS, len(losses)))
    highest = max((sum(losses[i : i + width]) / width for i in range(len(losses) - width + 1)), default=0.0)
    if losses and highest > limits.loss_spike * losses[0]:
        evidence.append(f"the loss leapt to {highest:.2f} from {losses[0]:.2f}")
    if not evidence:
        return None
    remedy = advise(
        curves,
        ("lower the learning rate", remedies.learning_rate(curves, 0.1)),
        ("clip harder", {"dpo.max_grad_norm": 0.3}),
        ("raise β", remedies.beta(curves, 10)),
    )
    return Finding(
        rule="kl_spike",
        severity="alarm",
        evidence=", ".join(evidence),
        meaning="the steps are too large, or β too small, to stay near the reference",
        remedy=remedy.words,
        keys=remedy.keys,
    )


def degenerate_samples(curves: Curves, limits: Thresholds) -> Finding | None:
    """Samples loop, do not end, or repeat each other, more than the reference's."""
    before, now = curves.reference, _newest_statistics(curves)
    evidence = []
    for past, present, limit, what in (
        (before.loops, now.loops, limits.loops, "loop"),
        (before.cut, now.cut, limits.cut, "do not end"),
    ):
        if past is not None and present is not None and present - past >= limit:
            evidence.append(f"{present:.0%} of samples {what} ({past:.0%} of the reference's)")
    if now.distinct_2 is not None and now.distinct_2 < (1 - limits.distinct_fall) * (before.distinct_2 or 0.0):
        evidence.append(f"distinct 2-grams fell to {now.distinct_2:.2f} from {before.distinct_2 or 0.0:.2f}")
    if not evidence:
        return None
    remedy = advise(
        curves,
        ("raise β", remedies.beta(curves, 3)),
        ("lower the learning rate", remedies.learning_rate(curves, 0.3)),
        ("keep the chosen answers likely with an SFT term", {"dpo.loss_type": ["sigmoid", "sft"]}),
    )
    return Finding(
        rule="degenerate_samples",
        severity="alarm",
        evidence=", ".join(evidence),
        meaning="the policy has lost the language that it had",
        remedy=remedy.words,
        keys=remedy.keys,
    )


def length_exploitation(curves: Curves, limits: Thresholds) -> Finding | None:
    """Samples grow, and the longer answer is nearly always the chosen one."""
    longer, counted = curves.facts.chosen_longer, curves.facts.unequal_lengths or 0
    before, now = curves.reference, _newest_statistics(curves)
    if now.length is None or not before.length or longer is None or counted < FEWEST_PAIRS:
        return None
    growth = now.length / before.length - 1
    noise = 2 * math.hypot(before.length_error or 0.0, now.length_error or 0.0)
    if longer < limits.longer_share or growth < limits.length_growth or now.length - before.length < noise:
        return None
    remedy = advise(
        curves,
        ("balance the pairs' lengths", {}),
        ("take the length out of the loss", {"dpo.loss_type": ["sigmoid_norm"]}),
    )
    return Finding(
        rule="length_exploitation",
        severity="alarm",
        evidence=f"samples grew from {before.length:.0f} to {now.length:.0f} tokens ({growth:+.0%}); the longer answer "
        f"is chosen in {longer:.0%} of {counted:.0f} pairs",
        meaning="length is what the policy learns",
        remedy=remedy.words,
        keys=remedy.keys,
    )


def log_probabilities_fall(curves: Curves, limits: Thresholds) -> Finding | None:
    """Both answers of a pair become less likely: an alarm beyond the limit, a note within."""
    tokens = curves.facts.chosen_tokens
    if not curves.validation or not tokens:
        return None
    chosen, rejected = (
        curves.nats(reward) for reward in (curves.validation[-1].chosen, curves.validation[-1].rejected)
    )
    if chosen is None or rejected is None or chosen >= 0 or rejected >= 0:
        return None
    fall = -chosen / tokens
    evidence = (
        f"log-probabilities fell by {-chosen:.1f} nats (chosen) and {-rejected:.1f} (rejected), {fall:.2f} nats per "
        f"token of the chosen (limit {limits.chosen_fall:g})"
    )
    if fall <= limits.chosen_fall:
        return Finding(
            rule="log_probabilities_fall",
            severity="note",
            evidence=evidence,
            meaning="normal: the loss sees only their difference, and probability moves to answers that stand in no "
            "pair",
            remedy="nothing has to be done",
        )
    remedy = advise(
        curves,
        ("add the SFT term, which keeps the chosen answers likely", {"dpo.loss_type": ["sigmoid", "sft"]}),
        ("raise β", remedies.beta(curves, 3)),
    )
    return Finding(
        rule="log_probabilities_fall",
        severity="alarm",
        evidence=evidence,
        meaning="the policy flees from its pairs instead of preferring the chosen answers",
        remedy=remedy.words,
        keys=remedy.keys,
    )


def forgetting(curves: Curves, limits: Thresholds) -> Finding | None:
    """The loss on text of general use rises."""
    before, now = curves.general_loss_start, last(check.general_loss for check in curves.checks)
    if before is None or now is None or now - before < limits.general_rise:
        return None
    remedy = advise(
        curves,
        ("raise β", remedies.beta(curves, 3)),
        ("mix general rows into what the model is tuned on before", {}),
        ("train an adapter instead of all weights", {"dpo.method": "lora"}),
    )
    return Finding(
        rule="forgetting",
        severity="alarm",
        evidence=f"the loss on general text rose from {before:.2f} to {now:.2f} nats per token",
        meaning="the policy forgets what it is not trained on",
        remedy=remedy.words,
        keys=remedy.keys,
    )


def _newest_statistics(curves: Curves) -> SampleStatistics:
    return curves.checks[-1].statistics if curves.checks else SampleStatistics()
