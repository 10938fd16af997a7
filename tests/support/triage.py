"""A triage task whose form only its examples show."""

from __future__ import annotations

import itertools
from pathlib import Path
from random import Random

from fairlead.documents.prepare import PrepareCounts, PreparedRows
from fairlead.pipeline.artifacts import Artifact
from fairlead.records import Example, Prompt
from tests.support.decide_projects import prepared
from tests.support.reader import COLORS, PLACES, STYLES, ticket

FORMAT = {"name": "format", "kind": "regex", "pattern": r"severity : \w+"}


COLOR = {"name": "color", "kind": "field", "field": "severity"}


TRIAGE = [{"metric": "format", "at_least": 0.8}, {"metric": "color", "at_least": 0.8}]


def tickets(count: int, seed: int) -> list[tuple[str, str]]:
    """Distinct tickets with their colours."""
    pairs = Random(seed).sample(list(itertools.product(COLORS, PLACES)), count)
    return [(ticket(color, place), color) for color, place in pairs]


def triage(folder: Path, count: int) -> Artifact:
    """Tickets whose answer has one form; only the examples show which."""
    dev = [
        Prompt.of(text, gold={"severity": color}, cluster=f"c{n}") for n, (text, color) in enumerate(tickets(count, 1))
    ]
    sft = [Example(Prompt.of(text), f"{STYLES[0]} : {color}") for text, color in tickets(40, 2)]
    return prepared(folder, dev, sft=sft, counts=PrepareCounts(sft=PreparedRows(kept=40, duplicates=3)))
