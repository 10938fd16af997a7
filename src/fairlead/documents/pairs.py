"""`counts.json` of the `judge` and `pairs` stages: what became of the comparisons."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from fairlead.documents.base import Document
from fairlead.records import VerdictState

Count = Annotated[int, Field(ge=0)]


class PairOutcome(StrEnum):
    """What became of a comparison when pairs were made of the verdicts."""

    PAIR = "pairs"  # it became a preference pair
    TIE = "tie"
    INCONSISTENT = "inconsistent"
    UNREADABLE = "unreadable"
    REFUSED = "refused"
    FAILED = "failed"
    UNJUDGED = "unjudged"  # there is no verdict on it
    IDENTICAL = "identical"  # a prompt whose completions are all the same: nothing to compare
    WITHIN_MARGIN = "within_margin"  # the verdict's margin is no greater than pairs.margin
    REVISION_IS_WORSE = "revision_is_worse"  # with the recipe `revision`: the judge prefers what was revised
    EMPTY = "empty"  # one of the two answers is empty


class JudgeCounts(Document):
    """The verdicts of the `judge` stage.

    Attributes:
        states: how many verdicts have each state.
        unanswered: verdicts without a reply, which a forced run asks for again.
        flagged: verdicts that people should look at.
        panel_disagreement: share of the comparisons on which a panel's members disagreed; None without a panel.
        identical_completions: prompts whose completions are all the same.
        judge: the judge's identity.
    """

    verdicts: Count
    states: dict[VerdictState, Count]
    unanswered: Count
    flagged: Count
    panel_disagreement: float | None
    identical_completions: Count
    judge: str


class PairCounts(Document):
    """The pairs of the `pairs` stage.

    Attributes:
        train, validation: pairs of each side.
        counts: what became of the comparisons; empty where the pairs were imported.
        dropped: pairs that data_check.drop left out, by check.
        flagged: pairs whose verdict people should look at.
        chosen_is_longer: share of the pairs of unequal length whose chosen answer is the longer one.
    """

    train: Count
    validation: Count
    counts: dict[PairOutcome, Count]
    dropped: dict[str, Count]
    flagged: Count
    chosen_is_longer: float | None
