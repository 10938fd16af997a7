"""Which pairs have which fault: repeated, contradictory, cut off, looping, in two languages, holding a secret."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from fairlead.data import text_quality
from fairlead.records import Preference, Sampled
from fairlead.text import near_duplicates
from fairlead.text.minhash import MinHashIndex
from fairlead.text.repetition import texts_with_loops
from fairlead.text.words import Vocabulary, asked

Side = Literal["chosen", "rejected"]
_PORTION = 2000  # pairs worked on at once


@dataclass
class PairFaults:
    """Places of the pairs that have each fault.

    Attributes:
        places: by check, where the pairs stand.
        kinds: by check, how many pairs have each kind of the fault, where it has kinds.
    """

    places: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    kinds: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def add(self, check: str, place: str, kind: str = "") -> None:
        self.places[check].append(place)
        if kind:
            self.kinds[check][kind] += 1


def find_faults(pairs: Sequence[Preference], places: Sequence[str], similarity: float) -> PairFaults:
    """The faults that are seen in the pairs themselves.

    Args:
        places: where each pair stands.
        similarity: Jaccard similarity of 5-word shingles from which texts count as near-duplicates.
    """
    faults = PairFaults()
    _repeats(pairs, places, faults)
    _texts(pairs, places, similarity, faults)
    return faults


def _repeats(pairs: Sequence[Preference], places: Sequence[str], faults: PairFaults) -> None:
    """Exact duplicates (the later ones), pairs of one answer, pairs that contradict another (both of them)."""
    seen: dict[int, int] = {}
    contradictory: set[int] = set()
    for number, (pair, place) in enumerate(zip(pairs, places, strict=True)):
        prompt, chosen, rejected = _spaced(pair.prompt.text), pair.chosen.strip(), pair.rejected.strip()
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


def _spaced(text: str) -> str:
    """The text with single spaces: a prompt with one more asks the same."""
    return " ".join(text.split())


def _texts(pairs: Sequence[Preference], places: Sequence[str], similarity: float, faults: PairFaults) -> None:
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
    pairs: Sequence[Preference], places: Sequence[str], clusters: Sequence[int], similarity: float, faults: PairFaults
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


def _one(pair: Preference, place: str, faults: PairFaults) -> None:
    """What is wrong with the texts of one pair."""
    answers = (pair.chosen, pair.rejected)
    cut = [_is_cut(pair, "chosen"), _is_cut(pair, "rejected")]
    if any(cut):
        faults.add("truncated", place, "chosen" if cut[0] else "rejected")
    texts = (pair.prompt.text, *answers)
    token = next((match for text in texts if (match := text_quality.template_token(text))), None)
    if token is not None:
        faults.add("template_tokens", place, token)
    kind = next((match for text in texts if (match := text_quality.secret(text))), None)
    if kind is not None:
        faults.add("secrets", place, kind)
    if any(map(text_quality.has_email, texts)):
        faults.add("email_addresses", place)
    mixed = _mixed_languages(asked(pair.prompt), answers)
    if mixed is not None:
        faults.add("mixed_languages", place, mixed)


def _mixed_languages(asked_text: str, answers: Sequence[str]) -> str | None:
    """What is mixed, where it is clear: prompt and answer, the two answers, or the scripts of one answer."""
    prompt_language, *answer_languages = map(text_quality.language, (asked_text, *answers))
    others = [answered_in for answered_in in answer_languages if answered_in not in (None, prompt_language)]
    if prompt_language is not None and others:
        return f"{prompt_language} answered in {others[0]}"
    if None not in answer_languages and len(set(answer_languages)) > 1:
        return f"{answer_languages[0]} preferred to {answer_languages[1]}"
    scripts = (text_quality.foreign_script(answer, asked_text) for answer in answers)
    foreign = next((script for script in scripts if script is not None), None)
    return None if foreign is None else f"part of an answer in {foreign}"


def _is_cut(pair: Preference, side: Side) -> bool:
    """Whether an answer stops in the middle; who sampled it may have said how it ended."""
    if isinstance(pair.provenance, Sampled):
        draw = pair.provenance.chosen if side == "chosen" else pair.provenance.rejected
        return draw.finish == "length"
    return text_quality.is_truncated(pair.chosen if side == "chosen" else pair.rejected)
