"""`fairlead data check`: what is wrong with preference pairs, found before anything is trained on them.

Every check gives pass, warn or fail, its figures, the places of the rows, and the command that mends it. Knows nothing
of files: the caller says where each pair stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from fairlead.config.data import CHECK_NAMES, CheckName, DataCheckSettings
from fairlead.data.pair_faults import PairFaults, find_faults
from fairlead.data.topics import topics_of
from fairlead.documents.data_check import DataCheck, Figure, Finding, Status
from fairlead.records import DropReason, Preference
from fairlead.statistics.intervals import bounded_mean_interval
from fairlead.text.near_duplicates import overlaps
from fairlead.text.words import asked

Figures = dict[str, Figure]

_RECOMMENDED = {"trial": 0, "effect": 500, "reliance": 1000}
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
_CHECK_OF: dict[DropReason, CheckName] = {
    DropReason.EMPTY_PROMPT: "empty",
    DropReason.EMPTY_CHOSEN: "empty",
    DropReason.EMPTY_REJECTED: "empty",
    DropReason.IDENTICAL: "identical",
    DropReason.EQUAL_SCORES: "equal_ratings",
}
_LENGTH_WARNS, _LENGTH_FAILS = 0.6, 0.95  # AUC of length alone, and their mirror images


def check_pairs(
    pairs: Sequence[Preference],
    places: Sequence[str],
    settings: DataCheckSettings,
    *,
    source: str,
    similarity: float,
    mend: Callable[[str], str],
    dropped: Sequence[tuple[str, DropReason]] = (),
    eval_texts: Sequence[str] | None = None,
) -> DataCheck:
    """Checks preference pairs.

    Args:
        places: where each pair stands, such as a line number.
        source: the file or stage.
        similarity: Jaccard similarity of 5-word shingles from which texts count as near-duplicates.
        mend: the command, or the step, that leaves out the rows of a check.
        dropped: (place, reason) of rows that make no pair, as reading them found.
        eval_texts: what the held-out prompts ask; None where there are none to compare with.
    """
    faults = find_faults(pairs, places, similarity)
    for place, reason in dropped:
        faults.add(check_of(reason), place, reason)
    prompts = _prompts(pairs)
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
    return DataCheck.of(source, len(pairs), tuple(_waived(finding, reasons.get(finding.check)) for finding in findings))


def check_of(reason: DropReason) -> CheckName:
    """The check that counts the rows which reading left out for this reason."""
    return _CHECK_OF.get(reason, "unusable")


def _waived(finding: Finding, reason: str | None) -> Finding:
    if reason is None or finding.status != "fail":
        return finding
    return finding.model_copy(update={"waived": reason})


def _prompts(pairs: Sequence[Preference]) -> dict[str, int]:
    """The first pair of every distinct prompt, by the prompt's text."""
    first: dict[str, int] = {}
    for number, pair in enumerate(pairs):
        first.setdefault(pair.prompt.text, number)
    return first


def _by_share(faults: PairFaults, total: int, mend: Callable[[str], str]) -> Iterator[tuple[str, Finding]]:
    """The checks whose status is decided by the share of the pairs that have the fault."""
    for name in _LIMITS:
        if name != "eval_overlap":
            kinds: Figures = {"kinds": dict(faults.kinds[name].most_common(10))} if name in faults.kinds else {}
            yield name, _finding(name, faults.places[name], total, mend, kinds)


def _finding(name: str, places: Sequence[str], total: int, mend: Callable[[str], str], figures: Figures) -> Finding:
    share = len(places) / total if total else None
    warns, fails = _LIMITS[name]
    status: Status = "fail" if (share or 0.0) > fails else "warn" if (share or 0.0) > warns else "pass"
    return Finding(
        check=name,
        status=status,
        figures={"pairs": len(places), "share": share, **figures},
        rows=tuple(places),
        remedy=mend(name) if places else "",
    )


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
    overlapping = [place for pair, place in zip(pairs, places, strict=True) if pair.prompt.text in leaked]
    return _finding("eval_overlap", overlapping, total, mend, {"eval_prompts": len(eval_texts)})


def _length(pairs: Sequence[Preference]) -> Finding:
    """How well length alone predicts the winner: P(chosen longer) + ½ P(equal), which is the AUC within pairs."""
    numbers: dict[str, int] = {}
    clusters = [numbers.setdefault(pair.prompt.text, len(numbers)) for pair in pairs]
    wins = [1.0 if len(p.chosen) > len(p.rejected) else 0.5 if len(p.chosen) == len(p.rejected) else 0.0 for p in pairs]
    auc = bounded_mean_interval(wins, 0.0, 1.0, clusters)
    figures: Figures = {"auc": auc}
    if auc.low is None or auc.high is None:
        return Finding(check="length", status="pass", figures=figures)
    extreme = max(auc.low, 1 - auc.high)
    status: Status = "fail" if extreme > _LENGTH_FAILS else "warn" if extreme > _LENGTH_WARNS else "pass"
    word = "longer" if auc.low > 0.5 else "shorter"
    remedy = (
        f"training would teach {word} answers: add pairs in which the {word} answer loses, or say in judge.criteria "
        "that length is no merit and run: fairlead data build; then read the length-adjusted win rate of: fairlead eval"
    )
    return Finding(check="length", status=status, figures=figures, remedy="" if status == "pass" else remedy)


def _margins(pairs: Sequence[Preference], places: Sequence[str], mend: Callable[[str], str]) -> Finding:
    known = np.array([pair.margin for pair in pairs if pair.margin is not None])
    figures: Figures = {"known": len(known), "pairs": len(pairs)}
    if not len(known):
        return Finding(check="margins", status="pass", figures=figures)
    quarters = np.quantile(known, [0, 0.25, 0.5, 0.75, 1]).tolist()
    figures |= dict(zip(("least", "lower_quarter", "median", "upper_quarter", "most"), quarters, strict=True))
    wrong = [place for pair, place in zip(pairs, places, strict=True) if pair.margin is not None and pair.margin <= 0]
    figures["not_positive"] = len(wrong)
    return Finding(
        check="margins",
        status="fail" if wrong else "pass",
        figures=figures,
        rows=tuple(wrong),
        remedy=mend("margins") if wrong else "",
    )


def _topics(pairs: Sequence[Preference], prompts: Mapping[str, int]) -> Finding:
    distinct = [pairs[number].prompt for number in prompts.values()]
    topics = topics_of(distinct, [asked(prompt) for prompt in distinct])
    figures: Figures = {
        "prompts": len(distinct),
        "topics": len(topics.sizes),
        "effective_topics": round(topics.effective, 2),
        "largest": dict(list(topics.sizes.items())[:5]),
        "from": "cluster" if topics.declared else "words",
    }
    narrow = max(topics.sizes.values(), default=0.0) > 0.5 and len(distinct) > 1
    remedy = (
        "one topic has most of the prompts: add prompts of others to data.prompts and run fairlead data build, or add "
        "pairs with fairlead data import SOURCE --out more.jsonl; nothing is wrong where the task is this one topic"
    )
    return Finding(
        check="topics", status="warn" if narrow else "pass", figures=figures, remedy=remedy if narrow else ""
    )


def _rows(count: int, settings: DataCheckSettings) -> Finding:
    recommended = _RECOMMENDED[settings.purpose]
    status: Status = "fail" if count < recommended else "warn" if count < _RELIABLE else "pass"
    figures: Figures = {"pairs": count, "wanted": recommended, "purpose": settings.purpose}
    remedy = (
        "about 500 pairs are needed to see an effect and 1,000 to rely on it: add prompts to data.prompts and run "
        "fairlead data build, or add pairs with fairlead data import SOURCE --out more.jsonl"
    )
    return Finding(check="rows", status=status, figures=figures, remedy="" if status == "pass" else remedy)
