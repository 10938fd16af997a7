"""`fairlead data check`: what is wrong with preference pairs, found before anything is trained on them.

Every check gives pass, warn or fail, its figures, the places of the rows, and the command that mends it. Knows nothing
of files: the caller says where each pair stands.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fairlead.config.data import PAIRS_DEMANDED, DataCheckSettings
from fairlead.data.checks.findings import Figures, Mend, by_share, eval_overlap, note_dropped, report_of, topics_finding
from fairlead.data.checks.pair_faults import find_faults
from fairlead.documents.data_check import DataCheck, Finding, Status
from fairlead.records import DropReason, Preference
from fairlead.statistics.intervals import bounded_mean_interval

_RELIABLE = 1000
_MORE = (
    "add prompts of others to data.prompts and run fairlead data build, or add pairs with fairlead data import SOURCE "
    "--out more.jsonl"
)
_BY_SHARE = (
    "unusable",
    "empty",
    "identical",
    "equal_ratings",
    "exact_duplicates",
    "near_duplicates",
    "contradictory",
    "truncated",
    "looping",
    "template_tokens",
    "mixed_languages",
    "secrets",
    "email_addresses",
)
_LENGTH_WARNS, _LENGTH_FAILS = 0.6, 0.95  # AUC of length alone, and their mirror images


def check_pairs(
    pairs: Sequence[Preference],
    places: Sequence[str],
    settings: DataCheckSettings,
    *,
    source: str,
    similarity: float,
    mend: Mend,
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
    total = len(pairs) + note_dropped(faults, dropped)
    prompts = [pair.prompt for pair in pairs]
    measured = dict(by_share(faults, _BY_SHARE, total, mend, "pairs"))
    if eval_texts is not None:
        measured["eval_overlap"] = eval_overlap(prompts, places, eval_texts, similarity, total, mend, "pairs")
    measured["length"] = _length(pairs)
    measured["margins"] = _margins(pairs, places, mend)
    measured["topics"] = topics_finding(prompts, _MORE)
    measured["rows"] = _rows(len(pairs), settings)
    return report_of(source, "preferences", len(pairs), measured, settings)


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


def _margins(pairs: Sequence[Preference], places: Sequence[str], mend: Mend) -> Finding:
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


def _rows(count: int, settings: DataCheckSettings) -> Finding:
    recommended = PAIRS_DEMANDED[settings.purpose]
    status: Status = "fail" if count < recommended else "warn" if count < _RELIABLE else "pass"
    figures: Figures = {"pairs": count, "wanted": recommended, "purpose": settings.purpose}
    remedy = (
        "about 500 pairs are needed to see an effect and 1,000 to rely on it: add prompts to data.prompts and run "
        "fairlead data build, or add pairs with fairlead data import SOURCE --out more.jsonl"
    )
    return Finding(check="rows", status=status, figures=figures, remedy="" if status == "pass" else remedy)
