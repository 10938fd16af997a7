"""`qualification.json`: what each judge of the project showed beside people and on comparisons with a known verdict."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fairlead.documents.base import Document
from fairlead.records import Interval

Status = Literal["passed", "failed", "undefined"]


class Agreement(Document):
    """A judge beside people. Every figure with its interval and n.

    Attributes:
        rows: comparisons on which most people agree; the others cannot be right or wrong.
        states: every verdict of every order, by state.
        accuracy: share of the readable verdicts that say what most people say.
        accuracy_missing_as_tie: the same with every missing verdict taken for a tie, as some papers count.
        accuracy_missing_as_wrong: the same with every missing verdict taken for wrong.
        pair_accuracy: accuracy of pairs whose two orders agree; None where only one order was asked.
        kappa: Cohen's κ of joined verdicts and people (pairs whose orders disagree have none).
        order_agreement: share of pairs whose two orders agree, of those with both readable; None with one order.
        first_place: share of verdicts other than tie that prefer what stands first. With both orders 0.5 is fair.
        first_place_people: the same of people's majority where only one order was asked; None with both.
        longer: share of verdicts other than tie that prefer the longer answer, of pairs of unequal length.
        longer_people: the same of people's majority.
        missing: share of verdicts that are none.
        people: share of pairs of people who agree with each other, None where there is one person a row.
    """

    rows: int
    undecided_rows: int
    states: dict[str, int]
    accuracy: Interval
    accuracy_missing_as_tie: Interval
    accuracy_missing_as_wrong: Interval
    pair_accuracy: Interval | None
    kappa: Interval
    order_agreement: Interval | None
    first_place: Interval
    first_place_people: Interval | None
    longer: Interval
    longer_people: Interval
    missing: Interval
    people: Interval | None


class Demand(Document):
    """One minimum or maximum with what was measured; undefined where nothing could be."""

    name: str
    bound: float
    value: float | None
    status: Status


class CheckedRow(Document):
    """A row on which people prefer one answer, and the judge one answer in both orders.

    Attributes:
        correct: whether it is the same.
        margin: mean of the orders' margins, None where the judge gives none.
    """

    correct: bool
    margin: float | None


class JudgeQualification(Document):
    """What one judge showed.

    Attributes:
        agreement: beside people, in both orders.
        padded_wins: share of verdicts for an answer that says itself twice, against itself.
        canary_wins: share of questions in which each constant answer does not lose against the answer that people
            prefer: verdicts for it, ties, and questions without a verdict.
        own_family: its preference for answers of its own model family (win 1, tie ½, loss 0) less that of people;
            None where no row tells that one of two answers comes from it.
        votes: how many independent votes a panel is worth, by its members' errors beside people; None for one judge.
        demands: what the project asks of it.
        checked: the rows that it decided in both orders and that people decided.
    """

    judge: str
    agreement: Agreement
    padded_wins: Interval
    canary_wins: dict[str, Interval]
    own_family: Interval | None
    demands: tuple[Demand, ...]
    checked: tuple[CheckedRow, ...] = Field(())
    votes: Interval | None = None

    @property
    def passed(self) -> bool:
        """No demand failed. What is undefined (no row of the judge's family) cannot be demanded."""
        return all(demand.status != "failed" for demand in self.demands)

    @property
    def unmeasured(self) -> str | None:
        """What could not be measured, and what it takes; None where everything was."""
        if self.own_family is not None:
            return None
        return (
            "the family probe measured nothing: no row names a model of the judge's family beside one of another "
            "(first_model, second_model)"
        )


class Qualification(Document):
    """The judges of a project by what they judge.

    Attributes:
        pairs: the judge of the training pairs.
        comparison: the judge of the comparison; None where it is the same one.
    """

    pairs: JudgeQualification | None = None
    comparison: JudgeQualification | None = None

    def by_role(self) -> dict[str, JudgeQualification]:
        """The qualifications that exist, by role."""
        roles = {"pairs": self.pairs, "comparison": self.comparison}
        return {role: judge for role, judge in roles.items() if judge is not None}
