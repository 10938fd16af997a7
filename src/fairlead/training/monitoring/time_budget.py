"""How many passes, pairs, prompts and looks fit into the share of time that watching may take. Pure functions.

Seconds are seconds of the same clock throughout. A *pass* is one over validation pairs, a *look* draws and scores
samples of the policy. The last pass is over all pairs, because its figures are the training's own; those before it may
be over fewer, all over the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

PASSES = 3  # passes wanted before the last one; more only where they can be over all pairs
LOOKS = 3  # looks wanted
FEWEST_PAIRS = 16
FEWEST_SAMPLES = 4
SCORING = 1.5  # a look against drawing alone, until a look was timed
FORWARD = 0.5  # a pass against a training step, per pair, until a pass was timed; without a backward it is a third

_MARGIN = 0.9  # of the allowance is planned with, because no projection is exact


@dataclass
class Clock:
    """Seconds spent on training and on watching it."""

    training: float = 0.0
    watching: float = 0.0

    @property
    def share(self) -> float:
        """Share of all time that watching took."""
        total = self.training + self.watching
        return self.watching / total if total > 0 else 0.0


def allowance(training: float, cost: float) -> float:
    """Seconds that watching may plan with, if the training itself takes `training` and watching `cost` of all time."""
    return _MARGIN * training * cost / (1 - cost)


@dataclass(frozen=True)
class Validation:
    """What passes over the validation pairs may take: half of the allowance.

    Attributes:
        pairs: all there are.
        each: seconds that one of them takes.
        whole: seconds that watching may take in the whole training.
        spent: seconds that passes took so far.
    """

    pairs: int
    each: float
    whole: float
    spent: float

    @property
    def last(self) -> float:
        """Seconds kept aside for the pass over all pairs at the end; 0 where it alone would take more than half."""
        return self.pairs * self.each if self.pairs * self.each <= self.whole / 2 else 0.0

    @property
    def budget(self) -> float:
        """Seconds for passes before the last."""
        return max(0.0, self.whole / 2 - self.spent - self.last)

    def pairs_of_pass(self, ahead: int) -> int:
        """Pairs of each pass before the last, of which the training comes by `ahead`; 0 where none fits."""
        fewest, affordable = min(FEWEST_PAIRS, self.pairs), int(self.budget / (self.each * max(1, min(PASSES, ahead))))
        if affordable >= fewest:
            return min(self.pairs, affordable)
        return fewest if self.budget >= fewest * self.each else 0

    def passes(self, of_pass: int) -> int:
        """How many more passes over `of_pass` pairs fit."""
        return int(self.budget / (self.each * of_pass) + 1e-6) if of_pass else 0


def prompts_affordable(count: int, draw: float, left: float) -> int:
    """Prompts on which one reference draw and `LOOKS` looks fit into `left` seconds; 0 below `FEWEST_SAMPLES`.

    Args:
        draw: seconds at most of one draw from all `count` prompts. Most answers end sooner, so looks take about half.
    """
    wanted = draw * (1 + LOOKS * SCORING / 2)
    most = count if wanted <= left else int(count * left / wanted)
    return most if most >= FEWEST_SAMPLES else 0


def wants_look(looks: int, affordable: float, done: float, last: bool) -> bool:
    """Whether to look now, if looks are to be spread evenly over the training and one kept for the end.

    Args:
        looks: taken so far.
        affordable: further looks that fit into what is left of the allowance.
        done: share of the training's steps that are over.
    """
    if affordable < 1:
        return False
    return last or (affordable >= 2 and looks < math.ceil((looks + affordable) * done))
