"""What the curves of a DPO training mean: rules on figures, each with its evidence, its meaning and a remedy.

Pure functions on the rows of `metrics.jsonl`. A rule whose figures were not measured says nothing. `docs/diagnosis.md`
explains the thresholds and shows how often each rule is right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fairlead.config.monitoring import Rule, Thresholds
from fairlead.training.diagnosis.curves import Curves, Row, last, series
from fairlead.training.diagnosis.remedies import advise, beta, rate, shown

FEWEST_PASSES = 3  # validation passes, before which a trend of them is no trend
LEAST_GAP = 1.0  # nats; a fall of a smaller validation gap is noise
LEAP_ROWS = 5  # logged steps over which a loss is averaged before it counts as a leap
FEWEST_PAIRS = 20  # pairs of unequal length, before which their lengths say nothing

Severity = Literal["alarm", "advice", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing that the figures show.

    Attributes:
        severity: an alarm says that something is wrong; advice that nothing is, yet more could be gained; a note that
            what looks odd is normal.
        evidence: the figures, in words.
        meaning: what they say of the training.
        remedy: what to do, in words.
        keys: the same as keys of `fairlead.yaml` with values to try.
    """

    rule: Rule
    severity: Severity
    evidence: str
    meaning: str
    remedy: str
    keys: Mapping[str, Any] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """One line for a terminal or a report."""
        keys = ", ".join(f"{key}: {shown(value)}" for key, value in self.keys.items())
        return f"{self.rule.replace('_', ' ')}: {self.evidence}; {self.meaning} — {self.remedy}" + (
            f" ({keys})" if keys else ""
        )


def diagnose(rows: Sequence[Row], thresholds: Thresholds | None = None) -> list[Finding]:
    """All findings, the gravest first; a rule that another one explains is left out.

    Args:
        rows: of a `metrics.jsonl`, as far as it goes.
    """
    curves, limits = Curves.of(rows), thresholds or Thresholds()
    found = [finding for rule in _RULES if (finding := rule(curves, limits)) is not None]
    alarms = {finding.rule for finding in found if finding.severity == "alarm"}
    explained = {effect for cause in alarms for effect in _EXPLAINS.get(cause, ())}
    return [finding for finding in found if finding.rule not in explained]


def named(findings: Sequence[Finding]) -> list[Finding]:
    """What asks for something: alarms and advice."""
    return [finding for finding in findings if finding.severity != "note"]


def alarms(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.severity == "alarm"]


def sentence(rows: Sequence[Row], findings: Sequence[Finding]) -> str:
    """The present state in one line: the gravest finding, or that there is none, with the figures that say so."""
    grave = alarms(findings)
    if grave:
        return grave[0].line
    advised = [finding.line for finding in findings if finding.severity == "advice"]
    curves = Curves.of(rows)
    parts = []
    if (gap := last(curves.validation, "eval_rewards/margins")) is not None:
        parts.append(f"validation gap {gap:.3g}")
    if (kl := last(curves.looks, "watch/kl")) is not None:
        parts.append(f"KL {kl:.3g} nats per answer")
    return "; ".join(["no alarm" + (f": {', '.join(parts)}" if parts else ""), *advised])


# The rules


def _not_a_number(curves: Curves, limits: Thresholds) -> Finding | None:
    del limits
    for row in curves.train:
        for key in ("loss", "grad_norm"):
            if key in row and row[key] is None:
                return Finding(
                    "not_a_number",
                    "alarm",
                    f"{key} is not a number at step {row['step']:.0f}",
                    "the weights left the range of their number type",
                    *advise(
                        curves,
                        ("lower the learning rate to a tenth", rate(curves, 0.1)),
                        ("compute in float32", {"model.dtype": "float32"}),
                    ),
                )
    return None


def _formatting(curves: Curves, limits: Thresholds) -> Finding | None:
    nats = [found for side in ("", "_rejected") if (found := curves.facts.get(f"reference_nats{side}")) is not None]
    gain, noise = curves.facts.get("prompt_gain"), 2 * (curves.facts.get("prompt_gain_error") or 0.0)
    evidence = []
    if nats and min(nats) > limits.reference_nats:
        evidence.append(
            f"the answers cost the reference {min(nats):.2f} nats per token or more (limit {limits.reference_nats:g})"
        )
    limit = max(limits.prompt_gain, noise) if limits.prompt_gain else 0.0
    if gain is not None and gain < limit:
        evidence.append(f"an answer's own prompt is worth {gain:.3f} nats per token (limit {limit:.2g})")
    if not evidence:
        return None
    return Finding(
        "formatting",
        "alarm",
        ", ".join(evidence),
        "in the form in which the training shows them, prompts and answers are strange to the model",
        "use the chat template that SFT used, and look at one rendered pair",
        {"model.chat_template": None},
    )


def _kl_spike(curves: Curves, limits: Thresholds) -> Finding | None:
    evidence = []
    per_token = max(series(curves.looks, "watch/kl_token"), default=None)
    if per_token is not None and per_token > limits.kl_per_token:
        evidence.append(f"KL reached {per_token:.2f} nats per token (limit {limits.kl_per_token:g})")
    losses = series(curves.train, "loss")
    width = max(1, min(LEAP_ROWS, len(losses)))
    highest = max((sum(losses[i : i + width]) / width for i in range(len(losses) - width + 1)), default=0.0)
    if losses and highest > limits.loss_leap * losses[0]:
        evidence.append(f"the loss leapt to {highest:.2f} from {losses[0]:.2f}")
    if not evidence:
        return None
    return Finding(
        "kl_spike",
        "alarm",
        ", ".join(evidence),
        "the steps are too large, or β too small, to stay near the reference",
        *advise(
            curves,
            ("lower the learning rate", rate(curves, 0.1)),
            ("clip harder", {"dpo.max_grad_norm": 0.3}),
            ("raise β", beta(curves, 10)),
        ),
    )


def _degenerate_samples(curves: Curves, limits: Thresholds) -> Finding | None:
    evidence = []
    look = curves.looks[-1] if curves.looks else {}
    for key, limit, what in (("loops", limits.loops, "loop"), ("cut", limits.cut, "do not end")):
        before, now = curves.start.get(f"reference_{key}"), look.get(f"watch/{key}")
        if before is not None and now is not None and now - before >= limit:
            evidence.append(f"{now:.0%} of samples {what} ({before:.0%} of the reference's)")
    now, before = look.get("watch/distinct_2"), curves.start.get("reference_distinct_2")
    if now is not None and before and now < (1 - limits.distinct_fall) * before:
        evidence.append(f"distinct 2-grams fell to {now:.2f} from {before:.2f}")
    if not evidence:
        return None
    return Finding(
        "degenerate_samples",
        "alarm",
        ", ".join(evidence),
        "the policy has lost the language that it had",
        *advise(
            curves,
            ("raise β", beta(curves, 3)),
            ("lower the learning rate", rate(curves, 0.3)),
            ("keep the chosen answers likely with an SFT term", {"dpo.loss_type": ["sigmoid", "sft"]}),
        ),
    )


def _label_noise(curves: Curves, limits: Thresholds) -> Finding | None:
    accuracy = last(curves.validation, "eval_rewards/accuracies")
    wrong = last(curves.validation, "eval_rewards/confidently_wrong")
    pairs = last(curves.validation, "eval_pairs") or curves.facts.get("validation_pairs")
    if accuracy is None or not pairs or _too_early(curves, limits) or not _has_moved(curves, limits):
        return None
    # The accuracy's own sampling error must not raise an alarm.
    upper = accuracy + math.sqrt(0.25 / pairs)
    if upper >= limits.noisy_accuracy or (wrong is not None and wrong < limits.confidently_wrong):
        return None
    sure = "" if wrong is None else f", {wrong:.0%} wrong among the clearest half"
    return Finding(
        "label_noise",
        "alarm",
        f"the policy moved, yet ranks only {accuracy:.0%} of {pairs:.0f} validation pairs as labelled{sure}",
        "many labels contradict each other",
        *advise(
            curves,
            ("measure the judge against people, in both orders", {"judge.both_orders": True}),
            ("let the loss know its error", {"dpo.label_noise": "measured"}),
        ),
    )


def _length_exploitation(curves: Curves, limits: Thresholds) -> Finding | None:
    longer, counted = curves.facts.get("chosen_longer"), curves.facts.get("unequal_lengths") or 0
    before, error = curves.start.get("reference_length"), curves.start.get("reference_length_error") or 0.0
    look = curves.looks[-1] if curves.looks else {}
    now = look.get("watch/length")
    if now is None or not before or longer is None or counted < FEWEST_PAIRS:
        return None
    growth = now / before - 1
    noise = 2 * math.hypot(error, look.get("watch/length_error") or 0.0)
    if longer < limits.longer_share or growth < limits.length_growth or now - before < noise:
        return None
    return Finding(
        "length_exploitation",
        "alarm",
        f"samples grew from {before:.0f} to {now:.0f} tokens ({growth:+.0%}); the longer answer is chosen in "
        f"{longer:.0%} of {counted:.0f} pairs",
        "length is what the policy learns",
        *advise(
            curves,
            ("balance the pairs' lengths", {}),
            ("take the length out of the loss", {"dpo.loss_type": ["sigmoid_norm"]}),
        ),
    )


def _overfitting(curves: Curves, limits: Thresholds) -> Finding | None:
    gaps = series(curves.trend, "eval_rewards/margins")
    losses = series(curves.trend, "eval_loss")
    train = curves.recent("loss")
    if len(gaps) < FEWEST_PASSES or not losses or train is None or _too_early(curves, limits):
        return None
    evidence = []
    best = max(gaps)
    counts = curves.beta is not None and best / curves.beta >= LEAST_GAP
    if counts and gaps[-1] < (1 - limits.validation_drop) * best and _grows(curves):
        evidence.append(f"the validation gap fell from {best:.3g} to {gaps[-1]:.3g} while that of training grew")
    lowest = min(losses)
    if losses[-1] > (1 + limits.loss_rise) * lowest and train < lowest:
        evidence.append(
            f"the validation loss rose from {lowest:.3g} to {losses[-1]:.3g}, in training it is {train:.3g}"
        )
    if not evidence and counts:
        evidence += _stalled(curves, limits)
    if not evidence:
        return None
    return Finding(
        "overfitting",
        "alarm",
        ", ".join(evidence),
        "the policy learns its pairs by heart",
        *advise(
            curves,
            ("train fewer epochs", {"dpo.epochs": _fewer_epochs(curves, limits)}),
            ("keep the best", {"watch.keep": "best"}),
            ("add dropout", {"lora.dropout": 0.1}),
            ("give more pairs", {}),
        ),
    )


def _stalled(curves: Curves, limits: Thresholds) -> list[str]:
    """What says that the second half of the training brought validation nothing, while training went on.

    A policy that runs away widens the gap of any pair, so the loss is asked too. It saturates, hence a quarter of the
    limit; once it is spent it says nothing.
    """
    gaps, learnt = series(curves.trend, "eval_rewards/margins"), curves.recent("rewards/margins") or 0.0
    middle = gaps[(len(gaps) - 1) // 2]
    if gaps[-1] < (1 + limits.stall) * middle and learnt > limits.memorised * gaps[-1]:
        return [
            f"the validation gap is {gaps[-1]:.3g} and was {middle:.3g} in the middle, in training it is {learnt:.3g}"
        ]
    start, train = _first_loss(curves), curves.recent("loss")
    if start is None or train is None or _pull(curves) < limits.spent_pull:
        return []
    losses = series(curves.trend, "eval_loss")
    before, fall = start - losses[(len(losses) - 1) // 2], start - losses[-1]
    if fall >= (1 + limits.stall / 4) * before or start - train <= limits.memorised * fall:
        return []
    return [
        f"the validation loss is {losses[-1]:.3g} and was {start - before:.3g} in the middle, in training {train:.3g}"
    ]


def _log_probabilities_fall(curves: Curves, limits: Thresholds) -> Finding | None:
    tokens = curves.facts.get("chosen_tokens")
    if not curves.validation or not tokens:
        return None
    chosen, rejected = (curves.nats(curves.validation[-1], f"eval_rewards/{side}") for side in ("chosen", "rejected"))
    if chosen is None or rejected is None or chosen >= 0 or rejected >= 0:
        return None
    fall = -chosen / tokens
    evidence = (
        f"log-probabilities fell by {-chosen:.1f} nats (chosen) and {-rejected:.1f} (rejected), {fall:.2f} nats per "
        f"token of the chosen (limit {limits.chosen_fall:g})"
    )
    if fall <= limits.chosen_fall:
        return Finding(
            "log_probabilities_fall",
            "note",
            evidence,
            "normal: the loss sees only their difference, and probability moves to answers that stand in no pair",
            "nothing has to be done",
        )
    return Finding(
        "log_probabilities_fall",
        "alarm",
        evidence,
        "the policy flees from its pairs instead of preferring the chosen answers",
        *advise(
            curves,
            ("add the SFT term, which keeps the chosen answers likely", {"dpo.loss_type": ["sigmoid", "sft"]}),
            ("raise β", beta(curves, 3)),
        ),
    )


def _forgetting(curves: Curves, limits: Thresholds) -> Finding | None:
    before, now = curves.start.get("general_loss_start"), last(curves.looks, "watch/general_loss")
    if before is None or now is None or now - before < limits.general_rise:
        return None
    return Finding(
        "forgetting",
        "alarm",
        f"the loss on general text rose from {before:.2f} to {now:.2f} nats per token",
        "the policy forgets what it is not trained on",
        *advise(
            curves,
            ("raise β", beta(curves, 3)),
            ("mix general rows into SFT", {}),
            ("train an adapter instead of all weights", {"dpo.method": "lora"}),
        ),
    )


def _loss_not_falling(curves: Curves, limits: Thresholds) -> Finding | None:
    start, now = _first_loss(curves), curves.recent("loss")
    if start is None or now is None or _too_early(curves, limits) or _has_moved(curves, limits):
        return None
    if now < (1 - limits.loss_fall) * start:
        return None
    known = "nothing is being learnt"
    if curves.facts.get("reference_nats") is not None:
        known += "; the form of the pairs was checked and is known to the model"
    return Finding(
        "loss_not_falling",
        "alarm",
        f"the loss is {now:.4f} after {curves.step} steps and began at {start:.4f}",
        known,
        *advise(curves, ("raise the learning rate", rate(curves, 10)), ("raise the rank", {"lora.r": 32})),
    )


def _too_conservative(curves: Curves, limits: Thresholds) -> Finding | None:
    gap, kl = _gap_nats(curves), last(curves.looks, "watch/kl")
    done, start, now = curves.done, _first_loss(curves), curves.recent("loss")
    if gap is None or kl is None or done is None or start is None or now is None or done < limits.late:
        return None
    # Near ½ it is β's own size that matters least, and steps are what is missing.
    pull = _pull(curves)
    pulled = pull > limits.full_pull
    if pull < limits.spent_pull and 0 < gap < limits.spent_gap:
        return Finding(
            "too_conservative",
            "advice",
            f"the loss pulls at a pair with {pull:.2f} of its strength (limit {limits.spent_pull:g}), log-ratios are "
            f"{gap:.2f} nats apart (limit {limits.spent_gap:g}), KL {kl:.2f} nats per answer",
            "β lets the policy go before it has gone far",
            "lower β, or give more varied pairs",
            beta(curves, 0.1),
        )
    fell = now < (1 - limits.loss_fall) * start
    if not fell or kl >= limits.small_kl or gap >= limits.small_gap:
        return None
    return Finding(
        "too_conservative",
        "advice",
        f"KL {kl:.2f} nats per answer (limit {limits.small_kl:g}) and log-ratios {gap:.2f} nats apart (limit "
        f"{limits.small_gap:g}) after {done:.0%} of the training",
        "the policy has hardly left the reference",
        "train longer or with a higher learning rate" if pulled else "lower β, or give more varied pairs",
        rate(curves, 3) if pulled else beta(curves, 0.1),
    )


def _too_aggressive(curves: Curves, limits: Thresholds) -> Finding | None:
    gap, done, pull = _gap_nats(curves), curves.done, _pull(curves)
    if gap is None or done is None or done < limits.late or gap < limits.small_gap or pull < limits.slack_pull:
        return None
    return Finding(
        "too_aggressive",
        "advice",
        f"log-ratios are {gap:.2f} nats apart, and the loss still pulls at a pair with {pull:.3f} of its strength "
        f"(limit {limits.slack_pull:g})",
        "β does not hold the policy: how far it goes is decided by the number of steps alone",
        "raise β",
        beta(curves, 10),
    )


_RULES: tuple[Callable[[Curves, Thresholds], Finding | None], ...] = (
    _not_a_number,
    _formatting,
    _kl_spike,
    _degenerate_samples,
    _label_noise,
    _length_exploitation,
    _overfitting,
    _log_probabilities_fall,
    _forgetting,
    _loss_not_falling,
    _too_conservative,
    _too_aggressive,
)

# A strange form, or a leap, is cause enough for what follows from it.
_EXPLAINS: dict[str, tuple[Rule, ...]] = {
    "formatting": ("label_noise", "loss_not_falling", "too_conservative"),
    "label_noise": ("loss_not_falling", "overfitting", "too_conservative"),
    "kl_spike": ("label_noise", "too_conservative"),
}


# What the rules share


def _too_early(curves: Curves, limits: Thresholds) -> bool:
    return curves.done is None or curves.done < limits.warmup


def _first_loss(curves: Curves) -> float | None:
    return next(iter(series(curves.train, "loss")), None)


def _gap_nats(curves: Curves) -> float | None:
    """How far apart chosen and rejected are now, on validation pairs if there are any."""
    if curves.validation:
        return curves.nats(curves.validation[-1], "eval_rewards/margins")
    gap = curves.recent("rewards/margins")
    return None if gap is None or not curves.beta else gap / curves.beta


def _pull(curves: Curves) -> float:
    """σ(−reward gap), the share of its full strength with which DPO's gradient pulls at a validation pair."""
    gap = last(curves.validation, "eval_rewards/margins")
    return 1 / (1 + math.exp(min(gap or curves.recent("rewards/margins") or 0.0, 700.0)))


def _has_moved(curves: Curves, limits: Thresholds) -> bool:
    """Whether the policy has left the reference, by its samples where there are any, else on its training pairs."""
    kl = last(curves.looks, "watch/kl")
    if kl is not None:
        return kl >= limits.moved_kl
    gap = curves.recent("rewards/margins")
    return gap is not None and bool(curves.beta) and abs(gap) / (curves.beta or 1) >= limits.small_gap


def _grows(curves: Curves) -> bool:
    """Whether the training gap is larger in the second half than in the first."""
    gaps = series(curves.train, "rewards/margins")
    half = len(gaps) // 2
    return half > 0 and sum(gaps[half:]) / len(gaps[half:]) > sum(gaps[:half]) / half


def _fewer_epochs(curves: Curves, limits: Thresholds) -> float | None:
    """The first epoch at which validation was as good as it became, but for a stall."""
    known = [row for row in curves.trend if row.get("eval_rewards/margins") is not None]
    enough = max(float(row["eval_rewards/margins"]) for row in known) / (1 + limits.stall)
    epoch = next(row for row in known if float(row["eval_rewards/margins"]) >= enough).get("epoch")
    return None if epoch is None else round(float(epoch), 2)
