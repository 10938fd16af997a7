"""What the comparison of base, SFT and DPO persists."""

from __future__ import annotations

from fairlead.documents.base import Document


class Plan(Document):
    """What a number of prompts can show, as a distance of a win rate from 50 %; None where nothing can be shown.

    Attributes:
        at_best: if prompts of one cluster are independent.
        at_worst: if each cluster counts as one prompt.
    """

    prompts: int
    clusters: int
    at_best: float | None
    at_worst: float | None
