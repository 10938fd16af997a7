"""Rules on learning: nothing learned, overfitting, and β too high or too low."""

from __future__ import annotations

from fairlead.config.monitoring import Thresholds
from fairlead.documents.diagnosis import Finding
from fairlead.training.diagnosis import remedies
from fairlead.training.diagnosis.conditions import has_moved, too_early
from fairlead.training.diagnosis.curves import Curves, known
from fairlead.training.diagnosis.remedies import Remedy, advise

FEWEST_PASSES = 3  # validation passes, before which a trend of them is no trend
SMALLEST_GAP = 1.0  # nats; a fall of a smaller validation gap is noise


def overfitting(curves: Curves, limits: Thresholds) -> Finding | None:
    """Validation gets worse, or stands still, while training goes on."""
    passes = curves.comparable_passes
    gaps, losses = (
        known(result.gap for result in passes),
        known(result.loss for result in passes),
    )
    train = curves.recent_loss
    if len(gaps) < FEWEST_PASSES or not losses or train is None or too_early(curves, limits):
        return None
    evidence = []
    best = max(gaps)
    beta = curves.facts.beta
    large_enough = beta is not None and best / beta >= SMALLEST_GAP
    if large_enough and gaps[-1] < (1 - limits.validation_drop) * best and _training_gap_grows(curves):
        evidence.append(f"the validation gap fell from {best:.3g} to {gaps[-1]:.3g} while that of training grew")
    lowest = min(losses)
    if losses[-1] > (1 + limits.loss_rise) * lowest and train < lowest:
        evidence.append(
            f"the validation loss rose from {lowest:.3g} to {losses[-1]:.3g}, in training it is {train:.3g}"
        )
    if not evidence and large_enough and _seen_before(passes[-1].epoch):
        evidence += _plateau(curves, gaps, losses, limits)
    if not evidence:
        return None
    remedy = advise(
        curves,
        ("train fewer epochs", {"dpo.epochs": _fewer_epochs(curves, limits)}),
        ("keep the best", {"watch.keep": "best"}),
        ("add dropout", {"lora.dropout": 0.1}),
        ("give more pairs", {}),
    )
    return Finding(
        rule="overfitting",
        severity="alarm",
        evidence=", ".join(evidence),
        meaning="the policy learns its pairs by heart",
        remedy=remedy.words,
        keys=remedy.keys,
    )


def _seen_before(epoch: float | None) -> bool:
    """Whether training sees its pairs again; in the first epoch they are as new to it as those of validation."""
    return epoch is None or epoch > 1


def _plateau(curves: Curves, gaps: list[float], losses: list[float], limits: Thresholds) -> list[str]:
    """Evidence that the second half of the training brought validation nothing, while training went on.

    A policy that runs away widens the gap of any pair, so the loss is asked too. It saturates, hence a quarter of the
    limit; once it is saturated it says nothing.

    Args:
        gaps, losses: of the validation passes that can be compared.
    """
    middle, trained_gap = gaps[(len(gaps) - 1) // 2], curves.recent_gap or 0.0
    if gaps[-1] < (1 + limits.stall) * middle and trained_gap > limits.memorised * gaps[-1]:
        return [
            f"the validation gap is {gaps[-1]:.3g} and was {middle:.3g} in the middle, in training it is "
            f"{trained_gap:.3g}"
        ]
    start, train = next(iter(curves.losses), None), curves.recent_loss
    if start is None or train is None or curves.gradient_weight < limits.saturated_gradient_weight:
        return []
    before, fall = start - losses[(len(losses) - 1) // 2], start - losses[-1]
    if fall >= (1 + limits.stall / 4) * before or start - train <= limits.memorised * fall:
        return []
    return [
        f"the validation loss is {losses[-1]:.3g} and was {start - before:.3g} in the middle, in training {train:.3g}"
    ]


def loss_not_falling(curves: Curves, limits: Thresholds) -> Finding | None:
    """The loss stays at its start and the policy where it was."""
    start, now = next(iter(curves.losses), None), curves.recent_loss
    if start is None or now is None or too_early(curves, limits) or has_moved(curves, limits):
        return None
    if now < (1 - limits.loss_fall) * start:
        return None
    meaning = "nothing is being learnt"
    if curves.facts.reference_nats is not None:
        meaning += "; the form of the pairs was checked and is known to the model"
    remedy = advise(
        curves,
        ("raise the learning rate", remedies.learning_rate(curves, 10)),
        ("raise the rank", {"lora.r": 32}),
    )
    return Finding(
        rule="loss_not_falling",
        severity="alarm",
        evidence=f"the loss is {now:.4f} after {curves.step} steps and began at {start:.4f}",
        meaning=meaning,
        remedy=remedy.words,
        keys=remedy.keys,
    )


def too_conservative(curves: Curves, limits: Thresholds) -> Finding | None:
    """The loss fell, yet at the end KL and log-ratios are small; or the loss saturates before they are large."""
    gap, kl, done = curves.log_ratio_gap, curves.last_kl, curves.done
    start, now = next(iter(curves.losses), None), curves.recent_loss
    if gap is None or kl is None or done is None or start is None or now is None or done < limits.late:
        return None
    weight = curves.gradient_weight
    if weight < limits.saturated_gradient_weight and 0 < gap < limits.saturated_gap:
        return Finding(
            rule="too_conservative",
            severity="advice",
            evidence=f"a pair's gradient has {weight:.2f} of its strength (limit "
            f"{limits.saturated_gradient_weight:g}), log-ratios are {gap:.2f} nats apart (limit "
            f"{limits.saturated_gap:g}), KL {kl:.2f} nats per answer",
            meaning="β lets the policy go before it has gone far",
            remedy="lower β, or give more varied pairs",
            keys=remedies.beta(curves, 0.1),
        )
    fell = now < (1 - limits.loss_fall) * start
    if not fell or kl >= limits.small_kl or gap >= limits.small_gap:
        return None
    # A weight near ½ means that β hardly holds the policy back; steps are what is missing.
    if weight > limits.unsaturated_gradient_weight:
        remedy = Remedy("train longer or with a higher learning rate", remedies.learning_rate(curves, 3))
    else:
        remedy = Remedy("lower β, or give more varied pairs", remedies.beta(curves, 0.1))
    return Finding(
        rule="too_conservative",
        severity="advice",
        evidence=f"KL {kl:.2f} nats per answer (limit {limits.small_kl:g}) and log-ratios {gap:.2f} nats apart (limit "
        f"{limits.small_gap:g}) after {done:.0%} of the training",
        meaning="the policy has hardly left the reference",
        remedy=remedy.words,
        keys=remedy.keys,
    )


def too_aggressive(curves: Curves, limits: Thresholds) -> Finding | None:
    """The policy has left the reference, and β does not hold it."""
    gap, done, weight = curves.log_ratio_gap, curves.done, curves.gradient_weight
    if gap is None or done is None or done < limits.late:
        return None
    if gap < limits.small_gap or weight < limits.unconstrained_gradient_weight:
        return None
    return Finding(
        rule="too_aggressive",
        severity="advice",
        evidence=f"log-ratios are {gap:.2f} nats apart, and a pair's gradient still has {weight:.3f} of its strength "
        f"(limit {limits.unconstrained_gradient_weight:g})",
        meaning="β does not hold the policy: how far it goes is decided by the number of steps alone",
        remedy="raise β",
        keys=remedies.beta(curves, 10),
    )


def _training_gap_grows(curves: Curves) -> bool:
    """Whether the training gap is larger in the second half than in the first."""
    gaps = curves.gaps
    half = len(gaps) // 2
    return half > 0 and sum(gaps[half:]) / len(gaps[half:]) > sum(gaps[:half]) / half


def _fewer_epochs(curves: Curves, limits: Thresholds) -> float | None:
    """The first epoch at which validation was as good as it became, but for a plateau."""
    passes = [(result.gap, result.epoch) for result in curves.comparable_passes if result.gap is not None]
    enough = max(gap for gap, _ in passes) / (1 + limits.stall)
    epoch = next(epoch for gap, epoch in passes if gap >= enough)
    return None if epoch is None else round(epoch, 2)
