"""From completions to comparisons, and from verdicts to preference triples. Pure functions."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fairlead.documents.pairs import PairOutcome
from fairlead.records import Comparison, Completion, Draw, Preference, Prompt, Sampled, Verdict, VerdictState

Recipe = Literal["best_worst", "all", "revision", "models"]


@dataclass(frozen=True)
class Judged:
    """Two completions of one prompt, the winner first, with the verdict that says so."""

    chosen: Completion
    rejected: Completion
    verdict: Verdict


def comparisons_for(
    prompts: Sequence[Prompt], completions: Sequence[Completion], recipe: Recipe = "all"
) -> tuple[list[Comparison], int]:
    """The distinct completions that a recipe compares, and how many prompts had only one distinct completion."""
    drawn = by_prompt(completions)
    comparisons: list[Comparison] = []
    alike = 0
    for prompt in prompts:
        distinct = _distinct(drawn.get(prompt.id, []))
        alike += len(distinct) < 2
        comparisons.extend(Comparison(prompt, a.text, b.text) for a, b in _compared(distinct, recipe))
    return comparisons, alike


def by_prompt(completions: Sequence[Completion]) -> dict[str, list[Completion]]:
    groups: dict[str, list[Completion]] = {}
    for completion in completions:
        groups.setdefault(completion.prompt_id, []).append(completion)
    return groups


def _distinct(drawn: Sequence[Completion]) -> list[Completion]:
    """The first completion of each text."""
    return list({completion.text: completion for completion in reversed(drawn)}.values())[::-1]


def _compared(distinct: Sequence[Completion], recipe: Recipe) -> Iterator[tuple[Completion, Completion]]:
    """revision: an answer and what its author made of it; models: answers of different models; else all."""
    for first, second in itertools.combinations(distinct, 2):
        related = first.model == second.model
        one_revised = is_revision(first) != is_revision(second) and first.index == second.index
        if {"revision": related and one_revised, "models": not related}.get(recipe, True):
            yield first, second


def is_revision(completion: Completion) -> bool:
    return completion.variant == "revision"


def preferences_from(
    prompts: Sequence[Prompt],
    completions: Sequence[Completion],
    verdicts: Sequence[Verdict],
    *,
    recipe: Recipe,
    margin: float,
) -> tuple[list[Preference], Counter[PairOutcome]]:
    """The preference triples of a recipe, and why the other comparisons gave none.

    Only a win or a loss makes a pair: a tie, an inconsistent or a missing verdict never does. With `best_worst` the
    completion with most wins is paired with the one with fewest, and only if their own comparison says the same. With
    `revision` a pair comes only from a revision that the judge prefers to what was revised.

    Args:
        margin: a pair is kept when the verdict's margin is greater; verdicts without a margin are kept.
    """
    by_id = {verdict.comparison_id: verdict for verdict in verdicts}
    drawn = by_prompt(completions)
    counts: Counter[PairOutcome] = Counter()
    preferences: list[Preference] = []
    for prompt in prompts:
        judged = list(_judged(prompt, drawn.get(prompt.id, []), by_id, recipe, counts))
        if recipe == "best_worst":
            judged = _extremes(judged)
        for pair in judged:
            reason = _unfit(pair, recipe, margin)
            if reason is not None:
                counts[reason] += 1
                continue
            counts[PairOutcome.PAIR] += 1
            preferences.append(_preference(prompt, pair))
    return preferences, counts


def _unfit(pair: Judged, recipe: Recipe, margin: float) -> PairOutcome | None:
    """Why a judged pair is no preference to train on; None if it is one."""
    if pair.verdict.margin is not None and pair.verdict.margin <= margin:
        return PairOutcome.WITHIN_MARGIN
    if recipe == "revision" and not is_revision(pair.chosen):
        return PairOutcome.REVISION_IS_WORSE
    if not pair.chosen.text.strip() or not pair.rejected.text.strip():
        return PairOutcome.EMPTY
    return None


def _judged(
    prompt: Prompt,
    drawn: Sequence[Completion],
    by_id: Mapping[str, Verdict],
    recipe: Recipe,
    counts: Counter[PairOutcome],
) -> Iterator[Judged]:
    distinct = _distinct(drawn)
    if len(distinct) < 2:
        counts[PairOutcome.IDENTICAL] += 1
    for first, second in _compared(distinct, recipe):
        verdict = by_id.get(Comparison(prompt, first.text, second.text).id)
        if verdict is None:
            counts[PairOutcome.UNJUDGED] += 1
        elif verdict.state is VerdictState.WIN:
            yield Judged(first, second, verdict)
        elif verdict.state is VerdictState.LOSS:
            yield Judged(second, first, verdict)
        else:
            counts[PairOutcome(verdict.state)] += 1


def _extremes(judged: Sequence[Judged]) -> list[Judged]:
    """The pair of most and fewest wins, if those two were judged that way round."""
    wins: Counter[str] = Counter()
    for pair in judged:
        wins[pair.chosen.text] += 1
        wins[pair.rejected.text] -= 1
    if not wins:
        return []
    return [max(judged, key=lambda pair: wins[pair.chosen.text] - wins[pair.rejected.text])]


def _preference(prompt: Prompt, pair: Judged) -> Preference:
    provenance = Sampled(
        chosen=_draw(pair.chosen),
        rejected=_draw(pair.rejected),
        judge=pair.verdict.judge,
        verdict=pair.verdict.comparison_id,
        reason=pair.verdict.reason,
        calls=pair.verdict.calls,
        flags=pair.verdict.flags,
    )
    return Preference(prompt, pair.chosen.text, pair.rejected.text, pair.verdict.margin, provenance)


def _draw(completion: Completion) -> Draw:
    c = completion
    return Draw(c.model, c.sampling, c.seed, c.index, c.finish, c.variant)
