"""`counts.json` of the `judge` and `pairs` stages: what became of the comparisons, and what replies took."""

from __future__ import annotations

import math
from collections.abc import Iterable
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


class ReplyUsage(Document):
    """What replies of language models took: `asked` among the figures of `judge` and `eval`.

    Replies from the ledger are among them, so that a resumed run counts the same.

    Attributes:
        replies: how many, corrections of unreadable ones included.
        input_tokens, output_tokens: None where no reply told them.
        cost: in the currency of the configured prices; None where there are none.
    """

    replies: int
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: float | None = None

    @classmethod
    def sum(cls, parts: Iterable[ReplyUsage]) -> ReplyUsage:
        """All of them together; a figure that only some of them have is that of those."""
        usages = list(parts)
        inputs, outputs, costs = (
            [value for usage in usages if (value := getattr(usage, name)) is not None]
            for name in ("input_tokens", "output_tokens", "cost")
        )
        return cls(
            replies=sum(usage.replies for usage in usages),
            input_tokens=sum(inputs) if inputs else None,
            output_tokens=sum(outputs) if outputs else None,
            cost=math.fsum(costs) if costs else None,  # exact, so that the order of the replies does not matter
        )
