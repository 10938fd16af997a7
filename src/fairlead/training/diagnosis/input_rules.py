"""Rules on what goes into the training: numbers, the form of prompts and answers, labels."""

from __future__ import annotations

from fairlead.config.monitoring import Thresholds
from fairlead.documents.diagnosis import Finding
from fairlead.statistics.wilson import wilson_ends
from fairlead.training.diagnosis import remedies
from fairlead.training.diagnosis.conditions import FEWEST_PAIRS, has_moved, too_early
from fairlead.training.diagnosis.curves import Curves, known, last
from fairlead.training.diagnosis.remedies import advise


def not_a_number(curves: Curves, limits: Thresholds) -> Finding | None:
    """Loss or gradient is NaN or infinite."""
    del limits
    step = next((step for step in curves.train if step.not_finite), None)
    if step is None:
        return None
    remedy = advise(
        curves,
        ("lower the learning rate to a tenth", remedies.learning_rate(curves, 0.1)),
        ("compute in float32", {"model.dtype": "float32"}),
    )
    return Finding(
        rule="not_a_number",
        severity="alarm",
        evidence=f"{step.not_finite[0]} is not a number at step {step.step}",
        meaning="the weights left the range of their number type",
        remedy=remedy.words,
        keys=remedy.keys,
    )


def formatting(curves: Curves, limits: Thresholds) -> Finding | None:
    """Both answers are improbable to the reference, or an answer's own prompt is worth no more than another's."""
    facts = curves.facts
    nats = known((facts.reference_nats, facts.reference_nats_rejected))
    evidence = []
    if nats and min(nats) > limits.reference_nats:
        evidence.append(
            f"the answers cost the reference {min(nats):.2f} nats per token or more (limit {limits.reference_nats:g})"
        )
    noise = 2 * (facts.prompt_gain_error or 0.0)
    limit = max(limits.prompt_gain, noise)
    if limits.prompt_gain and facts.prompt_gain is not None and facts.prompt_gain < limit:
        evidence.append(f"an answer's own prompt is worth {facts.prompt_gain:.3f} nats per token (limit {limit:.2g})")
    if not evidence:
        return None
    return Finding(
        rule="formatting",
        severity="alarm",
        evidence=", ".join(evidence),
        meaning="in the form in which the training shows them, prompts and answers are strange to the model",
        remedy="use the chat template that the model was tuned with, and look at one rendered pair",
        keys={"model.chat_template": None},
    )


def label_noise(curves: Curves, limits: Thresholds) -> Finding | None:
    """The policy moved, yet ranks validation pairs little better than a coin, wrongly even where it is sure."""
    accuracy = last(result.accuracy for result in curves.validation)
    wrong = last(result.confidently_wrong for result in curves.validation)
    pairs = curves.ranked_pairs or 0
    if accuracy is None or pairs < FEWEST_PAIRS or too_early(curves, limits) or not has_moved(curves, limits):
        return None
    # What the sampling error of a few pairs explains is no evidence.
    low, high = wilson_ends(accuracy, pairs)
    if high >= limits.noisy_accuracy:
        return None
    clearest = ""
    if wrong is not None:
        wrong_low, wrong_high = wilson_ends(wrong, pairs / 2)
        if wrong_low <= limits.confidently_wrong:
            return None
        clearest = f", {wrong:.0%} [{wrong_low:.0%}, {wrong_high:.0%}] wrong among the clearest half"
    remedy = advise(
        curves,
        ("measure the judge against people, in both orders", {"judge.both_orders": True}),
        ("let the loss know its error", {"dpo.label_noise": "measured"}),
    )
    return Finding(
        rule="label_noise",
        severity="alarm",
        evidence=f"the policy moved, yet ranks only {accuracy:.0%} of {pairs:.0f} validation pairs as labelled "
        f"[{low:.0%}, {high:.0%}]{clearest}",
        meaning="many labels contradict each other",
        remedy=remedy.words,
        keys=remedy.keys,
    )
