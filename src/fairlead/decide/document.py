"""decision.json: everything that was measured, as a typed document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from fairlead.config.decide import Target
from fairlead.decide.candidates import Recipe
from fairlead.decide.retrieval.documents import LeftOut
from fairlead.decide.scoring import Candidate, Figure, Usage
from fairlead.decide.verdict import Condition, Training, Verdict
from fairlead.documents import decision as documents
from fairlead.records import Interval

SCHEMA = 1


def waived(reason: str) -> documents.Decision:
    """The decision of a project that trains without one."""
    return documents.Decision(
        schema_version=SCHEMA,
        verdict="waived",
        why=reason,
        needed=None,
        prompts=0,
        lines=(f"The decision was waived: {reason}",),
        conditions=(),
        candidates=(),
    )


def decision(
    verdict: Verdict,
    candidates: Sequence[Candidate],
    recipes: Sequence[Recipe],
    *,
    targets: Sequence[Target],
    lines: Sequence[str],
    conditions: Sequence[Condition],
    training: Training,
    served: Usage | None,
    not_tried: Sequence[documents.NotTried],
    documents_left_out: Sequence[LeftOut],
    prompts: int,
    tuning_prompts: int,
) -> documents.Decision:
    """The document of a decision that was measured."""
    rows = [_candidate(candidate, recipe) for candidate, recipe in zip(candidates, recipes, strict=True)]
    return documents.Decision(
        schema_version=SCHEMA,
        verdict=verdict.conclusion,
        why=verdict.why,
        needed=verdict.needed,
        winner=None if verdict.winner is None else rows[candidates.index(verdict.winner)],
        nearest=rows[candidates.index(verdict.nearest)],
        targets=tuple(documents.Target(metric=target.metric, at_least=target.at_least) for target in targets),
        lines=tuple(lines),
        conditions=tuple(documents.Condition(**asdict(condition)) for condition in conditions),
        candidates=tuple(rows),
        fine_tuned_would_take=None if served is None else documents.Usage(**asdict(served)),
        training=_training(training),
        not_tried=tuple(not_tried),
        documents_left_out=tuple(documents.LeftOut(name=item.name, reason=item.reason) for item in documents_left_out),
        prompts=prompts,
        tuning_prompts=tuning_prompts,
    )


def _candidate(candidate: Candidate, recipe: Recipe) -> documents.Candidate:
    return documents.Candidate(
        candidate=candidate.name,
        model=candidate.model,
        family=candidate.family,
        recipe=documents.Recipe(**asdict(recipe)),
        status=candidate.status,
        figures={figure.metric: _figure(figure) for figure in candidate.figures},
        malformed=_mean(candidate.malformed),
        recall=_mean(candidate.recall),
        cut=candidate.cut,
        shots=candidate.shots,
        passages=candidate.passages,
        per_1000_answers=documents.Usage(**asdict(candidate.usage)),
    )


def _figure(figure: Figure) -> documents.Figure:
    interval = figure.interval
    return documents.Figure(
        value=interval.value,
        low=interval.low,
        high=interval.high,
        n=interval.n,
        missing=figure.missing,
        target=figure.target,
        status=figure.status,
        needed=figure.needed,
    )


def _mean(interval: Interval | None) -> documents.Mean | None:
    if interval is None:
        return None
    return documents.Mean(value=interval.value, low=interval.low, high=interval.high, n=interval.n)


def _training(training: Training) -> documents.Training:
    quality = {metric: mean for metric, interval in training.quality.items() if (mean := _mean(interval)) is not None}
    return documents.Training(
        prompts=training.prompts,
        counts=training.counts,
        dropped=training.dropped,
        quality=quality,
        repeated=training.repeated,
        faults=training.faults,
    )
