"""Whether one method's reward-KL frontier lies above another's: differences of score at equal KL, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """One method at one setting.

    Attributes:
        scores: [seeds, prompts] score of each held-out prompt's answer; the same prompts in the same order everywhere.
        kls: [seeds, prompts] KL of that answer, whose mean is the policy's; a known KL stands in every cell.
    """

    method: str
    setting: str
    scores: Floats
    kls: Floats


@dataclass(frozen=True)
class Difference:
    """DPO's frontier less a method's scores at the method's own KL, averaged over its settings.

    Attributes:
        compared: settings whose KL DPO's frontier reaches.
        beyond: settings whose KL it does not.
        word: confirmed where the whole interval lies above 0, refuted where it lies below, else open.
    """

    method: str
    value: float | None
    low: float | None
    high: float | None
    compared: tuple[str, ...]
    beyond: tuple[str, ...]

    @property
    def word(self) -> str:
        if self.low is None or self.high is None:
            return "open"
        return "confirmed" if self.low > 0 else "refuted" if self.high < 0 else "open"


def point(setting: Setting, seeds: Floats, prompts: Floats) -> tuple[float, float]:
    """(KL, score) with seeds and prompts counted so often."""
    weights = seeds[: len(setting.scores), None] * prompts[None, :]
    if weights.sum() == 0:  # a method with fewer seeds than the others, none of them drawn
        weights = np.broadcast_to(prompts[None, :], setting.scores.shape)
    total = weights.sum()
    return float((setting.kls * weights).sum() / total), float((setting.scores * weights).sum() / total)


def at(frontier: Sequence[tuple[float, float]], kl: float) -> float:
    """Score of a frontier at a KL, linear between its points."""
    ordered = sorted(frontier)
    return float(np.interp(kl, [x for x, _ in ordered], [y for _, y in ordered]))


def compare(
    settings: Sequence[Setting], start: Setting, *, frontier: str = "DPO", draws: int = DRAWS, seed: int = 0
) -> list[Difference]:
    """Of every other method the difference at its KL, with a 95 % percentile interval.

    Prompts and seeds are drawn with replacement, the same ones for all methods: prompts pair the scores, and two
    trainings of one seed share their pairs.

    Args:
        start: the model that all begin at; the frontier begins there, at a KL of 0.
        frontier: the method whose settings make the frontier.
    """
    frontier_settings = [setting for setting in settings if setting.method == frontier]
    others: dict[str, list[Setting]] = {}
    for setting in settings:
        if setting.method != frontier:
            others.setdefault(setting.method, []).append(setting)
    seeds, prompts = len(frontier_settings[0].scores), frontier_settings[0].scores.shape[1]
    unit_weights = np.ones(seeds), np.ones(prompts)
    farthest = max(point(setting, *unit_weights)[0] for setting in frontier_settings)
    reached = {
        method: [setting for setting in other_settings if point(setting, *unit_weights)[0] <= farthest]
        for method, other_settings in others.items()
    }

    def differences(weights: tuple[Floats, Floats]) -> Mapping[str, float]:
        line = [(0.0, point(start, *weights)[1]), *(point(setting, *weights) for setting in frontier_settings)]
        values = {}
        for method, other_settings in reached.items():
            points = [point(setting, *weights) for setting in other_settings]
            if points:
                values[method] = float(np.mean([at(line, kl) - score for kl, score in points]))
        return values

    rng = np.random.default_rng(seed)
    drawn = [
        differences(
            (
                rng.multinomial(seeds, np.full(seeds, 1 / seeds)).astype(float),
                rng.multinomial(prompts, np.full(prompts, 1 / prompts)).astype(float),
            )
        )
        for _ in range(draws)
    ]
    middle = differences(unit_weights)
    result = []
    for method, other_settings in others.items():
        compared = tuple(setting.setting for setting in reached[method])
        beyond = tuple(setting.setting for setting in other_settings if setting.setting not in compared)
        if method not in middle:
            result.append(Difference(method, None, None, None, compared, beyond))
            continue
        low, high = np.quantile([draw[method] for draw in drawn], [0.025, 0.975])
        result.append(Difference(method, middle[method], float(low), float(high), compared, beyond))
    return result


def verdict_markdown(comparisons: Sequence[Difference]) -> str:
    """A table of the differences, and what follows for the claim that DPO's frontier lies above."""
    lines = [
        "| against | DPO at equal KL less it | settings compared | beyond DPO's KL | claim |",
        "|---|---|---|---|---|",
    ]
    for one in comparisons:
        value = "—" if one.value is None else f"{one.value:+.3f} [{one.low:+.3f}, {one.high:+.3f}]"
        compared, beyond = (", ".join(names) or "—" for names in (one.compared, one.beyond))
        lines.append(f"| {one.method} | {value} | {compared} | {beyond} | {one.word} |")
    return "\n".join(lines)
