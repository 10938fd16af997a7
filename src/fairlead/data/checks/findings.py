"""What the checks of pairs, SFT rows and prompts have in common: limits, findings by share, leaks and topics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from fairlead.config.data import CHECK_NAMES, CheckName, DataCheckSettings
from fairlead.data.checks.faults import Faults
from fairlead.data.checks.topics import topics_of
from fairlead.documents.data_check import DataCheck, Figure, Finding, Kind, Status
from fairlead.records import DropReason, Prompt
from fairlead.text.near_duplicates import overlaps
from fairlead.text.words import asked

Figures = dict[str, Figure]
Mend = Callable[[str], str]

_NEVER = 2.0  # a share that none exceeds

# Check → share of the rows above which it warns, and above which it fails.
_LIMITS: dict[str, tuple[float, float]] = {
    "unusable": (0.0, 0.1),
    "empty": (0.0, 0.0),
    "identical": (0.0, 0.0),
    "equal_ratings": (0.0, 0.0),
    "exact_duplicates": (0.0, 0.1),
    "near_duplicates": (0.02, _NEVER),
    "contradictory": (0.0, 0.02),
    "truncated": (0.05, 0.5),
    "too_long": (0.0, 0.5),
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
    DropReason.EMPTY_ANSWER: "empty",
    DropReason.IDENTICAL: "identical",
    DropReason.EQUAL_SCORES: "equal_ratings",
}
# What a judged comparison or a conversation holds beside pairs and examples is no fault of it.
_NO_FAULT = (DropReason.DRAW, DropReason.NO_MAJORITY, DropReason.NOT_TRAINED_ON)


def check_of(reason: DropReason) -> CheckName:
    """The check that counts the rows which reading left out for this reason."""
    return _CHECK_OF.get(reason, "unusable")


def note_dropped(faults: Faults, dropped: Sequence[tuple[str, DropReason]]) -> int:
    """Adds the rows that reading left out to the faults; returns how many of them count as rows with a fault."""
    faulty = [(place, reason) for place, reason in dropped if reason not in _NO_FAULT]
    for place, reason in faulty:
        faults.add(check_of(reason), place, reason)
    return len(faulty)


def by_share(faults: Faults, names: Sequence[str], total: int, mend: Mend, unit: str) -> Iterator[tuple[str, Finding]]:
    """The checks whose status is decided by the share of the rows that have the fault."""
    for name in names:
        kinds: Figures = {"kinds": dict(faults.kinds[name].most_common(10))} if name in faults.kinds else {}
        yield name, finding(name, faults.places[name], total, mend, unit, kinds)


def finding(name: str, places: Sequence[str], total: int, mend: Mend, unit: str, figures: Figures) -> Finding:
    """A finding by share.

    Args:
        places: of the rows that have the fault.
        total: all rows.
        unit: what the figure that counts the rows is called: pairs or rows.
        figures: further ones.
    """
    share = len(places) / total if total else None
    warns, fails = _LIMITS[name]
    status: Status = "fail" if (share or 0.0) > fails else "warn" if (share or 0.0) > warns else "pass"
    return Finding(
        check=name,
        status=status,
        figures={unit: len(places), "share": share, **figures},
        rows=tuple(places),
        remedy=mend(name) if places else "",
    )


def eval_overlap(
    prompts: Sequence[Prompt],
    places: Sequence[str],
    eval_texts: Sequence[str],
    similarity: float,
    total: int,
    mend: Mend,
    unit: str,
) -> Finding:
    """The rows whose prompt is an eval prompt, or nearly.

    Args:
        prompts: of each row.
    """
    distinct = {prompt.text: asked(prompt) for prompt in prompts}
    texts = list(distinct)
    leaks = overlaps(list(distinct.values()), eval_texts, similarity)
    leaked = {texts[number] for number in leaks}
    overlapping = [place for prompt, place in zip(prompts, places, strict=True) if prompt.text in leaked]
    return finding("eval_overlap", overlapping, total, mend, unit, {"eval_prompts": len(eval_texts)})


def topics_finding(prompts: Sequence[Prompt], more: str) -> Finding:
    """How the distinct prompts spread over topics.

    Args:
        more: how to add rows of other topics.
    """
    first: dict[str, Prompt] = {}
    for prompt in prompts:
        first.setdefault(prompt.text, prompt)
    distinct = list(first.values())
    topics = topics_of(distinct, [asked(prompt) for prompt in distinct])
    figures: Figures = {
        "prompts": len(distinct),
        "topics": len(topics.sizes),
        "effective_topics": round(topics.effective, 2),
        "largest": dict(list(topics.sizes.items())[:5]),
        "from": "cluster" if topics.declared else "words",
    }
    narrow = max(topics.sizes.values(), default=0.0) > 0.5 and len(distinct) > 1
    remedy = f"one topic has most of the prompts: {more}; nothing is wrong where the task is this one topic"
    return Finding(
        check="topics", status="warn" if narrow else "pass", figures=figures, remedy=remedy if narrow else ""
    )


def report_of(
    source: str, kind: Kind, count: int, measured: Mapping[str, Finding], settings: DataCheckSettings
) -> DataCheck:
    """The findings in the order of their names, those that fail with the reason for which the config waives them."""
    reasons: Mapping[str, str] = {str(name): reason for name, reason in settings.waive.items()}
    findings = [measured[name] for name in CHECK_NAMES if name in measured]
    return DataCheck.of(source, kind, count, tuple(_waived(one, reasons.get(one.check)) for one in findings))


def _waived(one: Finding, reason: str | None) -> Finding:
    if reason is None or one.status != "fail":
        return one
    return one.model_copy(update={"waived": reason})
