"""From figures to a verdict, the four conditions and five lines for people. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fairlead.decide.scoring import Candidate, Usage
from fairlead.documents.decision import Conclusion, Family, Holds
from fairlead.records import Interval

PROMPTING: tuple[Family, ...] = ("instructions", "few-shot")
_MALFORMED = 0.05  # above this share of malformed answers the format is not held


@dataclass(frozen=True, slots=True)
class Training:
    """The training data, counted and measured.

    Attributes:
        prompts: distinct training prompts of all kinds.
        counts: rows by kind (sft, prompts, preferences).
        dropped: rows that `prepare` dropped, by reason.
        quality: mean of each metric on the answers that SFT would learn, where it is defined.
        repeated: share of SFT answers that occur more than once.
        faults: the checks of `fairlead data check` on ready pairs that warn or fail; None without ready pairs.
    """

    prompts: int
    counts: dict[str, int]
    dropped: dict[str, int]
    quality: dict[str, Interval]
    repeated: float | None
    faults: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """One of the framework's four conditions for fine-tuning, with the evidence."""

    name: str
    holds: Holds
    evidence: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the figures show.

    Attributes:
        winner: the cheapest candidate that meets every target; None where none does.
        nearest: the candidate nearest to all targets, see `nearest_of`.
        needed: prompts that would settle it, where evidence is short.
        why: one clause.
    """

    conclusion: Conclusion
    winner: Candidate | None
    nearest: Candidate
    needed: int | None
    why: str


def reach_verdict(candidates: Sequence[Candidate], *, prompts: int, min_prompts: int) -> Verdict:
    """Enough if one candidate is shown to meet every target; fine-tune if every candidate is shown to miss one.

    Args:
        candidates: at least one.
        prompts: how many each of them answered.
    """
    nearest = nearest_of(candidates)
    meeting = [c for c in candidates if c.status == "meets"]
    unclear = [c for c in candidates if c.status == "open"]
    if prompts < min_prompts:
        needed = max(min_prompts, _needed(unclear) or 0)
        why = f"{prompts} dev prompts, at least {min_prompts} are needed (decide.min_prompts)"
        return Verdict("not enough evidence", None, nearest, needed, why)
    if meeting:
        prompted = [c for c in meeting if c.family in PROMPTING]
        winner = _cheapest(prompted or meeting)
        conclusion: Conclusion = "prompting is enough" if prompted else "retrieval is enough"
        return Verdict(conclusion, winner, nearest, None, f"{winner.label} meets every target")
    if unclear:
        return _short_of_evidence(unclear, nearest)
    return Verdict("fine-tune", None, nearest, None, "every candidate is shown to miss a target")


def nearest_of(candidates: Sequence[Candidate]) -> Candidate:
    """The candidate that falls least short of all targets together; of equals the one whose worst target is nearest.

    The worst target alone would put a candidate that misses every target before one that misses a single target by a
    little more.
    """
    return min(candidates, key=lambda c: (c.shortfall, -c.margin))


def _cheapest(enough: Sequence[Candidate]) -> Candidate:
    """The cheapest candidate: by cost where all have one, else by the tokens read and written."""
    if all(candidate.usage.cost is not None for candidate in enough):
        return min(enough, key=lambda c: (c.usage.cost or 0.0, _tokens(c)))
    return min(enough, key=_tokens)


def _tokens(candidate: Candidate) -> float:
    return (candidate.usage.input_tokens or 0.0) + (candidate.usage.output_tokens or 0.0)


def _short_of_evidence(unclear: Sequence[Candidate], nearest: Candidate) -> Verdict:
    undefined = [c for c in unclear if any(f.target is not None and f.interval.value is None for f in c.figures)]
    if len(undefined) == len(unclear):
        metric = next(f.metric for f in undefined[0].figures if f.target is not None and f.interval.value is None)
        why = f"{metric} is undefined on every dev prompt: give the dev prompts the gold that it compares with"
        return Verdict("not enough evidence", None, nearest, None, why)
    count = f"{len(unclear)} candidate{'s' * (len(unclear) > 1)}"
    why = f"the intervals of {count} reach to both sides of a target"
    return Verdict("not enough evidence", None, nearest, _needed(unclear), why)


def _needed(unclear: Sequence[Candidate]) -> int | None:
    """Prompts that would settle it: enough for one promising candidate, or, without any, to show that all miss."""
    promising = [n for c in unclear if c.margin >= 0 and (n := _settles(c)) is not None]
    others = [n for c in unclear if c.margin < 0 and (n := _settles(c)) is not None]
    if promising:
        return min(promising)
    return max(others, default=None)


def _settles(candidate: Candidate) -> int | None:
    """Prompts for one candidate: all open targets if it is promising, because all must be met; else the first miss."""
    needed = [f.needed for f in candidate.figures if f.status == "open" and f.needed is not None]
    if not needed:
        return None
    return max(needed) if candidate.margin >= 0 else min(needed)


def conditions(
    candidates: Sequence[Candidate], training: Training, *, min_examples: int, targets: str
) -> list[Condition]:
    """The framework's four conditions, each with what was measured."""
    prompting = [c for c in candidates if c.family in PROMPTING]
    retrieval = [c for c in candidates if c.family not in PROMPTING]
    return [
        Condition("prompting was tried and fell short", _fell_short(prompting), _tried(prompting, targets)),
        Condition("retrieval does not catch the domain", _fell_short(retrieval), _caught(retrieval, prompting)),
        _format_condition(nearest_of(candidates)),
        Condition(
            f"there are about {min_examples:,} good examples",
            "yes" if training.prompts >= min_examples else "no",
            _examples(training),
        ),
    ]


def _fell_short(tried: Sequence[Candidate]) -> Holds:
    if not tried:
        return "not measured"
    statuses = {c.status for c in tried}
    if "meets" in statuses:
        return "no"
    return "open" if "open" in statuses else "yes"


def _tried(prompting: Sequence[Candidate], targets: str) -> str:
    best = nearest_of(prompting)
    return f"{len(prompting)} tried; nearest to {targets}: {best.label} with {figures_text(best)}"


def _caught(retrieval: Sequence[Candidate], prompting: Sequence[Candidate]) -> str:
    if not retrieval:
        return "no documents are configured (decide.retrieval)"
    best = nearest_of(retrieval)
    without = nearest_of(prompting)
    recall = "" if best.recall is None else f"; the right passage was found for {spread(best.recall)} of the prompts"
    return f"{best.label}: {figures_text(best)}, without documents {figures_text(without)}{recall}"


def _format_condition(best: Candidate) -> Condition:
    name = "the format is not held"
    share = best.malformed
    if share is None or share.value is None:
        return Condition(name, "not measured", "eval.metrics has no check of kind regex or json_schema")
    evidence = f"{best.label}: {spread(share)} of the answers are malformed"
    if share.low is not None and share.low > _MALFORMED:
        return Condition(name, "yes", evidence)
    malformed_is_rare = share.high is not None and share.high <= _MALFORMED
    return Condition(name, "no" if malformed_is_rare else "open", evidence)


def _examples(training: Training) -> str:
    parts = [f"{training.prompts:,} distinct prompts"]
    kinds = {"sft": "SFT rows", "prompts": "prompts for pairs", "preferences": "ready pairs"}
    parts.append(", ".join(f"{n:,} {kinds[k]}" for k, n in training.counts.items() if n) or "no rows")
    if training.dropped:
        parts.append("dropped: " + ", ".join(f"{n:,} {reason}" for reason, n in training.dropped.items()))
    if training.quality:
        figures = ", ".join(f"{metric} {spread(interval)}" for metric, interval in training.quality.items())
        parts.append(f"their own answers score {figures}")
    if training.repeated is not None:
        parts.append(f"{training.repeated:.0%} of the answers stand there more than once")
    if training.faults is not None:
        checks = ", ".join(f"{check} ({status})" for check, status in training.faults.items())
        parts.append(f"data check on the ready pairs: {checks or 'pass'}")
    return "; ".join(parts)


def five_lines(
    verdict: Verdict,
    candidates: Sequence[Candidate],
    served: Usage | None,
    training: Training,
    *,
    prompts: int,
    min_examples: int,
    targets: str,
) -> list[str]:
    """Five lines: the verdict, what was tried, how near it came, what it costs to serve, and what to do next."""
    models = sorted({c.model for c in candidates})
    families = ", ".join(dict.fromkeys(c.family for c in candidates))
    enough = verdict.winner or verdict.nearest
    return [
        f"{verdict.conclusion[0].upper()}{verdict.conclusion[1:]}: {verdict.why}.",
        f"Tried: {len(candidates)} candidates ({families}) on {', '.join(models)}, {prompts} dev prompts each, "
        "none trained on and none of the final evaluation.",
        f"{'Best that is enough' if verdict.winner else 'Nearest'}: {enough.label}: "
        f"{figures_text(enough)} ({targets}).",
        _serving_line(enough, served),
        f"Next: {_next(verdict, training, min_examples)}",
    ]


def _serving_line(enough: Candidate, served: Usage | None) -> str:
    line = f"Serving 1,000 answers that way takes {usage_words(enough.usage)}"
    return line + (f"; a fine-tuned model, without a long prompt, {usage_words(served)}." if served else ".")


def _next(verdict: Verdict, training: Training, min_examples: int) -> str:
    match verdict.conclusion:
        case "fine-tune":
            if training.prompts < min_examples:
                return (
                    f"collect examples first: {training.prompts:,} distinct prompts are fewer than {min_examples:,} "
                    "(decide.min_examples); fairlead run goes on all the same."
                )
            return "fairlead run trains (SFT, then DPO) and proves or refutes that it helped."
        case "not enough evidence":
            more = "more" if verdict.needed is None else f"about {verdict.needed:,}"
            return f"give {more} dev prompts (data.dev) and run fairlead decide again."
        case _:
            return "use it as it is; fairlead decide --json holds the prompt's recipe. No training is needed."


def figures_text(candidate: Candidate) -> str:
    """Its metrics that have a target, with intervals."""
    return ", ".join(f"{f.metric} {spread(f.interval)}" for f in candidate.figures if f.target is not None)


def spread(interval: Interval) -> str:
    if interval.value is None:
        return "undefined"
    if interval.low is None or interval.high is None:
        return f"{interval.value:.2f}"
    return f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def usage_words(usage: Usage) -> str:
    parts = []
    if usage.input_tokens is not None:
        parts.append(f"{usage.input_tokens:,.0f} thousand tokens read")
    if usage.output_tokens is not None:
        parts.append(f"{usage.output_tokens:,.0f} thousand written")
    if usage.seconds is not None:
        parts.append(f"{usage.seconds:,.1f} s")
    if usage.cost is not None:
        parts.append(f"a cost of {usage.cost:,.4g}")
    return ", ".join(parts) or "nothing that was measured"
