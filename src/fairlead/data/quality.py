"""`fairlead data check`: what is wrong with preference pairs, found before anything is trained on them.

Every check gives pass, warn or fail, its figures, the places of the rows, and the command that mends it. Knows nothing
of files: the caller says where each pair stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from fairlead.config.data import CHECK_NAMES, DataCheckSettings
from fairlead.data import text_quality
from fairlead.data.topics import topics_of
from fairlead.records import Preference
from fairlead.statistics.intervals import bounded_mean_interval
from fairlead.text import near_duplicates
from fairlead.text.minhash import MinHashIndex
from fairlead.text.near_duplicates import Vocabulary, asked, overlaps

Status = Literal["pass", "warn", "fail"]
Figures = dict[str, Any]

_PORTION = 2000  # pairs worked on at once
_WANTED = {"trial": 0, "effect": 500, "reliance": 1000}
_RELIABLE = 1000
_NEVER = 2.0  # a share that none exceeds

# Check → share of the pairs above which it warns, and above which it fails.
_LIMITS: dict[str, tuple[float, float]] = {
    "unusable": (0.0, 0.1),
    "empty": (0.0, 0.0),
    "identical": (0.0, 0.0),
    "equal_ratings": (0.0, 0.0),
    "exact_duplicates": (0.0, 0.1),
    "near_duplicates": (0.02, _NEVER),
    "contradictory": (0.0, 0.02),
    "truncated": (0.05, 0.5),
    "looping": (0.01, 0.1),
    "template_tokens": (0.0, 0.01),
    "mixed_languages": (0.05, _NEVER),
    "secrets": (0.0, 0.0),
    "email_addresses": (0.0, _NEVER),
    "eval_overlap": (0.0, 0.0),
}
_DROPPED = {
    "empty prompt": "empty",
    "empty chosen": "empty",
    "empty rejected": "empty",
    "identical chosen and rejected": "identical",
    "equal scores": "equal_ratings",
}
_LENGTH_WARNS, _LENGTH_FAILS = 0.6, 0.95  # AUC of length alone, and their mirror images


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        status: waived failures stay "fail"; see `waived`.
        figures: what it measured.
        rows: places of the pairs it is about.
        remedy: the command, or the step, that mends it; "" where nothing is to be mended.
        waived: the reason for which the config lets it fail, None where it does not.
    """

    check: str
    status: Status
    figures: Figures
    rows: tuple[str, ...] = ()
    remedy: str = ""
    waived: str | None = None


@dataclass(frozen=True)
class Report:
    """All findings on some pairs."""

    source: str
    pairs: int
    findings: tuple[Finding, ...]

    @property
    def status(self) -> Status:
        """The worst of the checks that are not waived."""
        counted = {finding.status for finding in self.findings if finding.waived is None}
        return "fail" if "fail" in counted else "warn" if "warn" in counted else "pass"

    def failed(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.status == "fail" and finding.waived is None]


@dataclass
class _Faults:
    """Places of the pairs that have each fault."""

    places: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in _LIMITS})
    kinds: dict[str, dict[str, int]] = field(default_factory=dict)

    def add(self, check: str, place: str, kind: str = "") -> None:
        self.places[check].append(place)
        if kind:
            counts = self.kinds.setdefault(check, {})
            counts[kind] = counts.get(kind, 0) + 1


def check_pairs(
    pairs: Sequence[Preference],
    places: Sequence[str],
    settings: DataCheckSettings,
    *,
    source: str,
    similarity: float,
    mend: Callable[[str], str],
    dropped: Sequence[tuple[str, str]] = (),
    eval_texts: Sequence[str] | None = None,
) -> Report:
    """Checks preference pairs.

    Args:
        places: where each pair stands, such as a line number.
        source: the file or stage.
        similarity: Jaccard similarity of 5-word shingles from which texts count as near-duplicates.
        mend: the command, or the step, that leaves out the rows of a check.
        dropped: (place, reason) of rows that make no pair, as reading them found.
        eval_texts: what the held-out prompts ask; None where there are none to compare with.
    """
    faults = _Faults()
    for place, reason in dropped:
        faults.add(check_of(reason), place, reason)
    prompts = _prompts(pairs)
    _repeats(pairs, places, faults)
    _texts(pairs, places, similarity, faults)
    total = len(pairs) + len(dropped)
    measured = dict(_by_share(faults, total, mend))
    if eval_texts is not None:
        measured["eval_overlap"] = _eval_overlap(pairs, places, prompts, eval_texts, similarity, total, mend)
    measured["length"] = _length(pairs)
    measured["margins"] = _margins(pairs, places, mend)
    measured["topics"] = _topics(pairs, prompts)
    measured["rows"] = _rows(len(pairs), settings)
    findings = [measured[name] for name in CHECK_NAMES if name in measured]
    reasons: Mapping[str, str] = {str(name): reason for name, reason in settings.waive.items()}
    return Report(source, len(pairs), tuple(_waived(finding, reasons.get(finding.check)) for finding in findings))


def check_of(reason: str) -> str:
    """The check that rows are counted under which reading left out for this reason."""
    return _DROPPED.get(reason, "unusable")


def _waived(finding: Finding, reason: str | None) -> Finding:
    if reason is None or finding.status != "fail":
        return finding
    return Finding(finding.check, finding.status, finding.figures, finding.rows, finding.remedy, reason)


def _prompts(pairs: Sequence[Preference]) -> dict[str, int]:
    """The first pair of every distinct prompt, by the prompt's text."""
    first: dict[str, int] = {}
    for number, pair in enumerate(pairs):
        first.setdefault(pair.prompt.text, number)
    return first


def _repeats(pairs: Sequence[Preference], places: Sequence[str], faults: _Faults) -> None:
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


def _texts(pairs: Sequence[Preference], places: Sequence[str], similarity: float, faults: _Faults) -> None:
    vocabulary = Vocabulary()
    index = MinHashIndex(similarity)
    for start in range(0, len(pairs), _PORTION):
        portion, where = pairs[start : start + _PORTION], places[start : start + _PORTION]
        words = [[vocabulary.words(text) for text in (p.prompt.text, p.chosen, p.rejected)] for p in portion]
        index.add([np.concatenate(three) for three in words])
        loops = (
            text_quality.looping([pair.chosen for pair in portion], [chosen for _, chosen, _ in words]),
            text_quality.looping([pair.rejected for pair in portion], [rejected for _, _, rejected in words]),
        )
        for pair, place, chosen_loops, rejected_loops in zip(portion, where, *loops, strict=True):
            _one(pair, place, faults)
            if chosen_loops or rejected_loops:
                faults.add("looping", place, "chosen" if chosen_loops else "rejected")
    _near(pairs, places, index.clusters(), similarity, faults)


def _near(
    pairs: Sequence[Preference], places: Sequence[str], clusters: Sequence[int], similarity: float, faults: _Faults
) -> None:
    """Pairs that nearly repeat an earlier one: under another prompt, or in both answers under the same.

    Pairs of one prompt share it and differ in an answer: that is what a prompt with n answers gives.
    """
    exact = set(faults.places["exact_duplicates"])
    first: dict[int, str] = {}
    of_prompt: dict[tuple[int, str], list[int]] = {}
    found: set[int] = set()
    for number, (pair, place, cluster) in enumerate(zip(pairs, places, clusters, strict=True)):
        if place in exact:
            continue
        text = pair.prompt.text
        of_prompt.setdefault((cluster, text), []).append(number)
        if first.setdefault(cluster, text) != text:
            found.add(number)
    for numbers in of_prompt.values():
        if len(numbers) > 1:
            found.update(_repeated_answers(pairs, numbers, similarity))
    for number in sorted(found):
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


def _one(pair: Preference, place: str, faults: _Faults) -> None:
    """What is wrong with the texts of one pair."""
    answers = (pair.chosen, pair.rejected)
    cut = [_is_cut(pair, side) for side in ("chosen", "rejected")]
    if any(cut):
        faults.add("truncated", place, "chosen" if cut[0] else "rejected")
    texts = (pair.prompt.text, *answers)
    token = next((found for text in texts if (found := text_quality.template_token(text))), None)
    if token is not None:
        faults.add("template_tokens", place, token)
    kind = next((found for text in texts if (found := text_quality.secret(text))), None)
    if kind is not None:
        faults.add("secrets", place, kind)
    if any(map(text_quality.has_email, texts)):
        faults.add("email_addresses", place)
    mixed = _mixed_languages(asked(pair.prompt), answers)
    if mixed is not None:
        faults.add("mixed_languages", place, mixed)


def _mixed_languages(asked_text: str, answers: Sequence[str]) -> str | None:
    """What is mixed, where it is clear: prompt and answer, the two answers, or the scripts of one answer."""
    spoken, *told = map(text_quality.language, (asked_text, *answers))
    others = [found for found in told if found not in (None, spoken)]
    if spoken is not None and others:
        return f"{spoken} answered in {others[0]}"
    if None not in told and len(set(told)) > 1:
        return f"{told[0]} preferred to {told[1]}"
    scripts = (text_quality.foreign_script(answer, asked_text) for answer in answers)
    foreign = next((script for script in scripts if script is not None), None)
    return None if foreign is None else f"part of an answer in {foreign}"


def _is_cut(pair: Preference, side: str) -> bool:
    """Whether an answer stops in the middle; who sampled it may have said how it ended."""
    origin = pair.provenance.get(side)
    finish = origin.get("finish") if isinstance(origin, Mapping) else None
    return finish == "length" if finish is not None else text_quality.is_truncated(getattr(pair, side))


def _by_share(faults: _Faults, total: int, mend: Callable[[str], str]) -> Iterator[tuple[str, Finding]]:
    for name, limits in _LIMITS.items():
        if name == "eval_overlap":
            continue
        places = faults.places[name]
        figures: Figures = {"pairs": len(places), "share": _share(len(places), total)}
        if name in faults.kinds:
            figures["kinds"] = dict(sorted(faults.kinds[name].items(), key=lambda item: -item[1])[:10])
        yield name, _finding(name, figures, places, limits, mend)


def _finding(
    name: str, figures: Figures, places: Sequence[str], limits: tuple[float, float], mend: Callable[[str], str]
) -> Finding:
    share = figures["share"] or 0.0
    status: Status = "fail" if share > limits[1] else "warn" if share > limits[0] else "pass"
    return Finding(name, status, figures, tuple(places), mend(name) if places else "")


def _share(count: int, total: int) -> float | None:
    return count / total if total else None


def _eval_overlap(
    pairs: Sequence[Preference],
    places: Sequence[str],
    prompts: Mapping[str, int],
    eval_texts: Sequence[str],
    similarity: float,
    total: int,
    mend: Callable[[str], str],
) -> Finding:
    texts = list(prompts)
    leaks = overlaps([asked(pairs[prompts[text]].prompt) for text in texts], eval_texts, similarity)
    leaked = {texts[number] for number in leaks}
    found = [place for pair, place in zip(pairs, places, strict=True) if pair.prompt.text in leaked]
    figures: Figures = {"pairs": len(found), "share": _share(len(found), total), "eval_prompts": len(eval_texts)}
    return _finding("eval_overlap", figures, found, _LIMITS["eval_overlap"], mend)


def _length(pairs: Sequence[Preference]) -> Finding:
    """How well length alone predicts the winner: P(chosen longer) + ½ P(equal), which is the AUC within pairs."""
    numbers: dict[str, int] = {}
    clusters = [numbers.setdefault(pair.prompt.text, len(numbers)) for pair in pairs]
    wins = [1.0 if len(p.chosen) > len(p.rejected) else 0.5 if len(p.chosen) == len(p.rejected) else 0.0 for p in pairs]
    auc = bounded_mean_interval(wins, 0.0, 1.0, clusters)
    figures: Figures = {"auc": auc.value, "low": auc.low, "high": auc.high, "pairs": auc.n}
    if auc.low is None or auc.high is None:
        return Finding("length", "pass", figures)
    extreme = max(auc.low, 1 - auc.high)
    status: Status = "fail" if extreme > _LENGTH_FAILS else "warn" if extreme > _LENGTH_WARNS else "pass"
    word = "longer" if auc.low > 0.5 else "shorter"
    remedy = (
        f"training would teach {word} answers: add pairs in which the {word} answer loses, or say in judge.criteria "
        "that length is no merit and run: fairlead data build; then read the length-adjusted win rate of: fairlead eval"
    )
    return Finding("length", status, figures, remedy="" if status == "pass" else remedy)


def _margins(pairs: Sequence[Preference], places: Sequence[str], mend: Callable[[str], str]) -> Finding:
    known = np.array([pair.margin for pair in pairs if pair.margin is not None])
    figures: Figures = {"known": len(known), "pairs": len(pairs)}
    if not len(known):
        return Finding("margins", "pass", figures)
    quarters = np.quantile(known, [0, 0.25, 0.5, 0.75, 1]).tolist()
    figures |= dict(zip(("least", "lower_quarter", "median", "upper_quarter", "most"), quarters, strict=True))
    wrong = [place for pair, place in zip(pairs, places, strict=True) if pair.margin is not None and pair.margin <= 0]
    figures["not_positive"] = len(wrong)
    return Finding("margins", "fail" if wrong else "pass", figures, tuple(wrong), mend("margins") if wrong else "")


def _topics(pairs: Sequence[Preference], prompts: Mapping[str, int]) -> Finding:
    distinct = [pairs[number].prompt for number in prompts.values()]
    found = topics_of(distinct, [asked(prompt) for prompt in distinct])
    figures: Figures = {
        "prompts": len(distinct),
        "topics": len(found.sizes),
        "effective_topics": round(found.effective, 2),
        "largest": dict(list(found.sizes.items())[:5]),
        "from": "cluster" if found.declared else "words",
    }
    narrow = max(found.sizes.values(), default=0.0) > 0.5 and len(distinct) > 1
    remedy = (
        "one topic has most of the prompts: add prompts of others to data.prompts and run fairlead data build, or add "
        "pairs with fairlead data import SOURCE --out more.jsonl; nothing is wrong where the task is this one topic"
    )
    return Finding("topics", "warn" if narrow else "pass", figures, remedy=remedy if narrow else "")


def _rows(count: int, settings: DataCheckSettings) -> Finding:
    wanted = _WANTED[settings.purpose]
    status: Status = "fail" if count < wanted else "warn" if count < _RELIABLE else "pass"
    figures: Figures = {"pairs": count, "wanted": wanted, "purpose": settings.purpose}
    remedy = (
        "about 500 pairs are needed to see an effect and 1,000 to rely on it: add prompts to data.prompts and run "
        "fairlead data build, or add pairs with fairlead data import SOURCE --out more.jsonl"
    )
    return Finding("rows", status, figures, remedy="" if status == "pass" else remedy)
