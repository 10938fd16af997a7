"""Training needs a decision that says fine-tune, or a reason to train without one."""

from __future__ import annotations

from pathlib import Path

from fairlead.documents.decision import Decision
from fairlead.errors import DecisionError
from fairlead.pipeline.artifacts import Artifact

DECISION = "decision.json"
_ALLOWED = ("fine-tune", "waived")


def read_decision(artifact: Artifact) -> Decision:
    """The decision that the stage `decide` wrote."""
    return Decision.read(artifact.file(DECISION))


def demand_fine_tuning(artifact: Artifact, *, stage: str, folder: Path) -> None:
    """Does nothing if the decision allows a training stage to start.

    Raises:
        DecisionError: if the decision is neither fine-tune nor waived; it says how to go on.
    """
    decision = read_decision(artifact)
    if decision.verdict in _ALLOWED:
        return
    raise DecisionError(
        f"{stage} does not start: the decision is {decision.verdict} ({decision.why})",
        where=str(artifact.path / "decision.md"),
        remedy=remedy(decision, stage, folder),
    )


def remedy(decision: Decision, stage: str, folder: Path) -> str:
    """What to do instead, and how to train nevertheless."""
    waive = (
        'to train nevertheless, set decide: {waive: "your reason"} in fairlead.yaml, '
        f"then: fairlead run {folder} --until {stage}"
    )
    if decision.verdict != "not enough evidence":
        return waive
    count = decision.needed
    more = "dev prompts with the gold that the metrics compare with" if count is None else f"about {count} dev prompts"
    return f"give {more} as data.dev, then: fairlead decide {folder}; {waive}"
