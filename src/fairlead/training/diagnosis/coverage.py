"""What a log does not hold that the rules need: a rule that has nothing to judge is named, and not taken for passed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fairlead.config.monitoring import Thresholds
from fairlead.documents.diagnosis import FailureMode
from fairlead.training.diagnosis.conditions import FEWEST_PAIRS
from fairlead.training.diagnosis.curves import Curves, known
from fairlead.training.diagnosis.learning_rules import FEWEST_PASSES
from fairlead.training.measurements import Metrics, SampleStatistics

Need = Callable[[Curves], str | None]
"""What of a rule's evidence is missing, in words; None where it is there."""


def not_judged(rows: Sequence[Metrics], thresholds: Thresholds | None = None) -> dict[FailureMode, str]:
    """The rules that a log says nothing of, each with what it lacks.

    Args:
        rows: of a `metrics.jsonl`, as far as it goes.
    """
    curves, limits = Curves.from_metrics(rows), thresholds or Thresholds()
    lacking: dict[FailureMode, str] = {}
    for rule, needs in NEEDS.items():
        texts = [need(curves) for need in needs]
        if rule in NEEDED_PROGRESS:
            texts.append(_progress(curves, getattr(limits, NEEDED_PROGRESS[rule])))
        if missing := [text for text in texts if text is not None]:
            lacking[rule] = ", ".join(missing)
    return lacking


def _steps(curves: Curves) -> str | None:
    return None if curves.train else "no loss of a training step"


def _losses(curves: Curves) -> str | None:
    return None if curves.losses else "no loss of a training step"


def _loss_or_kl(curves: Curves) -> str | None:
    per_token = known(check.kl.kl_token for check in curves.checks)
    return None if curves.losses or per_token else "neither a loss of a training step nor a KL per token"


def _kl(curves: Curves) -> str | None:
    return None if curves.last_kl is not None else "no KL from the reference (watch/kl)"


def _beta(curves: Curves) -> str | None:
    return None if curves.facts.beta else "β is not known (--beta)"


def _gap(curves: Curves) -> str | None:
    gap = curves.last_validation_gap if curves.validation else curves.recent_gap
    return None if gap is not None else "no reward gap (rewards/margins)"


def _movement(curves: Curves) -> str | None:
    """Whether the policy moved is told by the KL, else by the reward gap and β."""
    if curves.last_kl is not None or curves.nats(curves.recent_gap) is not None:
        return None
    return "neither a KL from the reference nor a reward gap with its β (--beta)"


def _progress(curves: Curves, share: float) -> str | None:
    if curves.done is None:
        return "the length of the training is not known (run/steps)"
    return None if curves.done >= share else f"{curves.done:.0%} of the training is over where {share:.0%} are needed"


def _reference_probability(curves: Curves) -> str | None:
    facts = curves.facts
    measured = known((facts.reference_nats, facts.reference_nats_rejected, facts.prompt_gain))
    return None if measured else "no probability of the answers under the reference (run/reference_nats)"


def _ranked_pairs(curves: Curves) -> str | None:
    if not known(result.accuracy for result in curves.validation):
        return "no accuracy on validation pairs (eval_rewards/accuracies)"
    pairs = curves.ranked_pairs
    if not pairs:
        return "no number of validation pairs (eval_pairs)"
    return None if pairs >= FEWEST_PAIRS else f"{pairs:.0f} validation pairs where {FEWEST_PAIRS} are needed"


def _passes(curves: Curves) -> str | None:
    passes = len(known(result.gap for result in curves.comparable_passes))
    if passes >= FEWEST_PASSES and known(result.loss for result in curves.comparable_passes):
        return None
    return f"{passes} validation passes with a reward gap where {FEWEST_PASSES} are needed"


def _validation_rewards(curves: Curves) -> str | None:
    rewards = known((curves.validation[-1].chosen, curves.validation[-1].rejected)) if curves.validation else []
    return None if len(rewards) == 2 else "no rewards on validation pairs (eval_rewards/chosen)"


def _chosen_tokens(curves: Curves) -> str | None:
    return None if curves.facts.chosen_tokens else "no length of the chosen answers (run/chosen_tokens)"


def _unequal_pairs(curves: Curves) -> str | None:
    counted = int(curves.facts.unequal_lengths or 0)
    if curves.facts.chosen_longer is not None and counted >= FEWEST_PAIRS:
        return None
    return f"{counted} pairs of unequal length (run/unequal_lengths) where {FEWEST_PAIRS} are needed"


def _sample_lengths(curves: Curves) -> str | None:
    now = curves.checks[-1].statistics.length if curves.checks else None
    return None if now is not None and curves.reference.length else "no lengths of samples (watch/length)"


def _samples(curves: Curves) -> str | None:
    now = curves.checks[-1].statistics if curves.checks else SampleStatistics()
    compared = known((now.loops, now.cut, now.distinct_2)) and known((curves.reference.loops, curves.reference.cut))
    return None if compared else "no samples of policy and reference (watch/loops, watch/cut)"


def _general_loss(curves: Curves) -> str | None:
    measured = known(check.general_loss for check in curves.checks)
    return None if measured and curves.general_loss_start is not None else "no loss on general text (watch.general)"


NEEDS: Mapping[FailureMode, tuple[Need, ...]] = {
    "not_a_number": (_steps,),
    "formatting": (_reference_probability,),
    "kl_spike": (_loss_or_kl,),
    "degenerate_samples": (_samples,),
    "label_noise": (_ranked_pairs, _movement),
    "length_exploitation": (_unequal_pairs, _sample_lengths),
    "overfitting": (_passes, _losses),
    "log_probabilities_fall": (_validation_rewards, _beta, _chosen_tokens),
    "forgetting": (_general_loss,),
    "loss_not_falling": (_losses,),
    "too_conservative": (_gap, _beta, _kl, _losses),
    "too_aggressive": (_gap, _beta),
}
"""What each rule needs of a log, in the order of `rules.RULES`."""

NEEDED_PROGRESS: Mapping[FailureMode, str] = {
    **dict.fromkeys(("label_noise", "overfitting", "loss_not_falling"), "warmup"),
    **dict.fromkeys(("too_conservative", "too_aggressive"), "late"),
}
"""Rules that wait for a share of the training, by the threshold that says how large it is."""
