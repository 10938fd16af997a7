"""Preference pairs without a fault."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fairlead.records import Draw, Preference, Prompt, Sampled, Sampling

THINGS = ("disk", "network", "database", "cache", "queue", "router", "mail server", "login", "backup", "printer")


ACTS = ("is full", "is slow", "does not start", "loses data", "was moved", "needs an update", "is unreachable")


SAMPLED = Sampled(
    Draw("sft", Sampling(temperature=0.7), seed=3, index=0),
    Draw("sft", Sampling(temperature=1.2), seed=4, index=1),
    judge="rubric:1",
    verdict="0123456789abcdef",
    reason="as told",
    calls=("k",),
)


def pair(n: int, **change: Any) -> Preference:
    """Pairs that differ in every text; the chosen answer is longer in every second one."""
    thing, act = THINGS[n % len(THINGS)], ACTS[n // len(THINGS) % len(ACTS)]
    good, bad = f"Restart the {thing} of rack {n}.", f"Ignore the {thing} number {n}, it {act}."
    if n % 2:
        good, bad = f"Restart the {thing} of rack {n} because it {act}, then tell the people.", f"Ignore {thing} {n}."
    made = Preference(Prompt.of(f"What to do when the {thing} {act}, case {n}?", cluster=thing), good, bad, 1.0)
    return replace(made, **change)


def clean(count: int = 1000) -> list[Preference]:
    return [pair(n) for n in range(count)]
