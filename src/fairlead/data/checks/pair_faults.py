"""Which pairs have which fault: repeated, contradictory, cut off, looping, in two languages, holding a secret."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from fairlead.data.checks import text_quality
from fairlead.data.checks.faults import Faults, note_texts, spaced
from fairlead.records import Preference, Sampled
from fairlead.text import near_duplicates
from fairlead.text.minhash import MinHashIndex
from fairlead.text.repetition import texts_with_loops
from fairlead.text.words import Vocabulary

Side = Literal["chosen", "rejected"]
_PORTION = 2000  # pairs worked on at once


def find_faults(pairs: Sequence[Preference], places: Sequence[str], similarity: float) -> Faults:
    """The faults that are seen in the pairs themselves.

    Args:
        places: where each pair stands.
        similarity: Jaccard similarity of 5-word shingles from which texts count as near-duplicates.
    """
    faults = Faults()
    _repeats(pairs, places, faults)
    _texts(pairs, places, similarity, faults)
    return faults


def _repeats(pairs: Sequence[Preference], places: Sequence[str], faults: Faults) -> None:
    """Exact duplicates (the later ones), pairs of one answer, pairs that contradict another (both of them)."""
    seen: dict[int, int] = {}
    contradictory: set[int] = set()
    for number, (pair, place) in enumerate(zip(pairs, places, strict=True)):
        prompt, chosen, rejected = spaced(pair.prompt.text), pair.chosen.strip(), pair.rejected.strip()
        if not chosen or not rejected or not prompt:
            faults.add("empty", place)
        elif chosen == rejected:
            faults.add("identical", place)
        if pair.margin is not None and pair.margin == 0:
            faults.add("equal_ratings", place)
        if hash((prompt, chosen, rejected)) in seen:
            faults.add("exact_duplicates", place)
        seen.setdefault(hash((prompt, chosen, rejected)), number)
        other = seen.get(hash((prompt, rejected, chosen)))
        if other is not None and chosen != rejected:
            contradictory |= {other, number}
    for number in sorted(contradictory):
        faults.add("contradictory", places[number])


def _texts(pairs: Sequence[Preference], places: Sequence[str], similarity: float, faults: Faults) -> None:
    vocabulary = Vocabulary()
    index = MinHashIndex(similarity)
    for start in range(0, len(pairs), _PORTION):
        portion, where = pairs[start : start + _PORTION], places[start : start + _PORTION]
        words = [[vocabulary.words(text) for text in (p.prompt.text, p.chosen, p.rejected)] for p in portion]
        index.add([np.concatenate(three) for three in words])
        loops = (
            texts_with_loops([pair.chosen for pair in portion], [chosen for _, chosen, _ in words]),
            texts_with_loops([pair.rejected for pair in portion], [rejected for _, _, rejected in words]),
        )
        for pair, place, chosen_loops, rejected_loops in zip(portion, where, *loops, strict=True):
            _one(pair, place, faults)
            if chosen_loops or rejected_loops:
                faults.add("looping", place, "chosen" if chosen_loops else "rejected")
    _near(pairs, places, index.clusters(), similarity, faults)


def _near(
    pairs: Sequence[Preference], places: Sequence[str], clusters: Sequence[int], similarity: float, faults: Faults
) -> None:
    """Pairs that nearly repeat an earlier one: under another prompt, or in both answers under the same.

    Pairs of one prompt share it and differ in an answer: that is what a prompt with n answers gives.
    """
    exact = set(faults.places["exact_duplicates"])
    first: dict[int, str] = {}
    of_prompt: dict[tuple[int, str], list[int]] = {}
    repeats: set[int] = set()
    for number, (pair, place, cluster) in enumerate(zip(pairs, places, clusters, strict=True)):
        if place in exact:
            continue
        text = pair.prompt.text
        of_prompt.setdefault((cluster, text), []).append(number)
        if first.setdefault(cluster, text) != text:
            repeats.add(number)
    for numbers in of_prompt.values():
        if len(numbers) > 1:
            repeats.update(_repeated_answers(pairs, numbers, similarity))
    for number in sorted(repeats):
        faults.add("near_duplicates", places[number])


def _repeated_answers(pairs: Sequence[Preference], numbers: Sequence[int], similarity: float) -> Iterator[int]:
    """Those of some pairs of one prompt whose two answers both nearly repeat those of an earlier one."""
    chosen = near_duplicates.clusters([pairs[number].chosen for number in numbers], similarity)
    rejected = near_duplicates.clusters([pairs[number].rejected for number in numbers], similarity)
    seen: set[tuple[int, int]] = set()
    for number, both in zip(numbers, zip(chosen, rejected, strict=True), strict=True):
        if both in seen:
            yield number
        seen.add(both)


def _one(pair: Preference, place: str, faults: Faults) -> None:
    """What is wrong with the texts of one pair."""
    answers = (pair.chosen, pair.rejected)
    cut = [_is_cut(pair, "chosen"), _is_cut(pair, "rejected")]
    if any(cut):
        faults.add("truncated", place, "chosen" if cut[0] else "rejected")
    note_texts(pair.prompt, answers, place, faults)


def _is_cut(pair: Preference, side: Side) -> bool:
    """Whether an answer stops in the middle; who sampled it may have said how it ended."""
    if isinstance(pair.provenance, Sampled):
        draw = pair.provenance.chosen if side == "chosen" else pair.provenance.rejected
        return draw.finish == "length"
    return text_quality.is_truncated(pair.chosen if side == "chosen" else pair.rejected)
