"""Preference pairs from a file, split as Fairlead splits them, and how well figures of their answers rank them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairlead.data.reading.readers import read_preferences
from fairlead.data.splits import split_by_prompt
from fairlead.models.chat import conversation_tokens
from fairlead.records import Interval, Preference, content_id
from fairlead.statistics.intervals import bounded_mean_interval, paired_difference
from fairlead.text.near_duplicates import overlaps
from fairlead.text.words import asked

HELD_OUT, SIMILARITY = 1 / 3, 0.8  # of the prompts; from which two of them count as near-duplicates
LONGER, BASE, BASE_PER_TOKEN = "length alone", "base, log p", "base, log p per token"

Floats = NDArray[np.float64]
Sizes = tuple[int | None, int | None]


@dataclass(frozen=True)
class Split:
    """The pairs of one file.

    Attributes:
        words: what was read, and what was left out.
    """

    train: list[Preference]
    held_out: list[Preference]
    words: str


def read_split(path: Path, tokenizer: Any, max_length: int, seed: int, sizes: Sizes) -> Split:
    """Reads and splits a file as Fairlead does; prompts of which a pair is longer than `max_length` are left out whole.

    Args:
        sizes: how many pairs to train on and to hold out at most; None for all.
    """
    read = read_preferences(path.name, path.parent)
    distinct = list({(p.prompt.id, p.chosen, p.rejected): p for p in read.preferences}.values())
    long = {
        pair.prompt.id
        for pair in distinct
        if max(len(conversation_tokens(pair.prompt, text, tokenizer)) for text in (pair.chosen, pair.rejected))
        > max_length
    }
    pairs = [pair for pair in distinct if pair.prompt.id not in long]
    sides = split_by_prompt([pair.prompt for pair in pairs], HELD_OUT, seed=seed, threshold=SIMILARITY)
    train, held_out = ([pairs[index] for index in side] for side in sides)
    leaks = overlaps([asked(p.prompt) for p in held_out], [asked(p.prompt) for p in train], SIMILARITY)
    if leaks:
        sys.exit(f"{path.name}: {len(leaks)} held-out prompts are training prompts, or nearly")
    train, held_out = (first_prompts(side, size, seed) for side, size in zip((train, held_out), sizes, strict=True))
    dropped = ", ".join(f"{reason} {count}" for reason, count in read.dropped_by_reason.items())
    words = (
        f"{len(read.preferences)} pairs (left out: {dropped or 'none'}), {len(read.preferences) - len(distinct)} of "
        f"them repeats, {len(distinct) - len(pairs)} of {len(long)} prompts beyond {max_length} tokens; train "
        f"{counted(train)}, held out {counted(held_out)}, no prompt or near-duplicate on both sides"
    )
    return Split(train, held_out, words)


def first_prompts(pairs: list[Preference], most: int | None, seed: int) -> list[Preference]:
    """All pairs of as many prompts as have no more than `most` pairs, in an order that their content and the seed
    give."""
    kept: list[Preference] = []
    by_prompt: dict[str, list[Preference]] = {}
    for pair in pairs:
        by_prompt.setdefault(pair.prompt.id, []).append(pair)
    for prompt in sorted(by_prompt, key=lambda name: content_id(seed, name)):
        if most is None or len(kept) + len(by_prompt[prompt]) <= most:
            kept += by_prompt[prompt]
    return kept


def counted(pairs: Sequence[Preference]) -> str:
    return f"{len(pairs)} pairs of {len({pair.prompt.id for pair in pairs})} prompts"


def outcomes(values: Floats) -> Floats:
    """1 for each pair whose chosen answer has the greater value, ½ for equal ones; `values` are [pairs, 2]."""
    return np.asarray(0.5 * (1 + np.sign(values[:, 0] - values[:, 1])))


@dataclass(frozen=True)
class HeldOut:
    """What is known of the held-out pairs' answers, each an array [pairs, (chosen, rejected)].

    Attributes:
        tokens: of each answer, the end of the turn included.
        base: log p of each answer under the base.
        policies: the same under each trained model.
        clusters: the prompt of each pair.
    """

    tokens: Floats
    base: Floats
    policies: dict[str, Floats]
    clusters: list[str]

    def rankings(self) -> dict[str, Floats]:
        """The figure by which each row of the table ranks the answers of a pair."""
        return {
            LONGER: self.tokens,
            BASE: self.base,
            BASE_PER_TOKEN: self.base / self.tokens,
            **{name: policy - self.base for name, policy in self.policies.items()},
        }

    def margins(self, name: str) -> Floats:
        """Of each pair, by how much a ranking has the chosen answer above the rejected one."""
        values = self.rankings()[name]
        return np.asarray(values[:, 0] - values[:, 1])

    def correlation(self, one: str, other: str) -> float | None:
        """Of two rankings over the margins of all pairs; None where one of them ranks nothing."""
        margins = self.margins(one), self.margins(other)
        return float(np.corrcoef(*margins)[0, 1]) if all(values.std() for values in margins) else None

    def rows(self) -> list[dict[str, Any]]:
        """Of every ranking its accuracy, and its differences from the others, pair by pair."""
        rankings = self.rankings()
        right = {name: outcomes(values) for name, values in rankings.items()}
        longer = right[LONGER]
        unequal = longer != 0.5
        made = []
        for name, values in rankings.items():
            row: dict[str, Any] = {
                "name": name,
                "accuracy": triple(bounded_mean_interval(right[name], 0.0, 1.0, self.clusters)),
                "less": {
                    other: triple(paired_difference(right[name], right[other], self.clusters, bounds=(0.0, 1.0)))
                    for other in rankings
                    if other != name
                },
                "prefers_longer": float(np.where(longer == 1, right[name], 1 - right[name])[unequal].mean()),
            }
            if name in self.policies:
                row |= {"margin": float((values[:, 0] - values[:, 1]).mean()), "chosen": float(values[:, 0].mean())}
            made.append(row)
        return made


def triple(interval: Interval) -> list[float | None]:
    return [interval.value, interval.low, interval.high]


def interval_text(values: Sequence[float | None] | None, sign: str = "") -> str:
    return "—" if values is None or None in values else "{:{s}.3f} [{:{s}.3f}, {:{s}.3f}]".format(*values, s=sign)


def markdown(rows: Sequence[dict[str, Any]], against: Sequence[str]) -> str:
    """A table of the rows; `against` names those that all are compared with. Margins and chosen are in nats."""
    head = ["ranked by", "accuracy", *(f"less {name}" for name in against), "prefers the longer"]
    lines = ["| " + " | ".join([*head, "margin", "chosen"]) + " |", "|" + "---|" * len(head) + "---:|---:|"]
    for row in rows:
        nats = [f"{row[name]:+.2f}" if name in row else "—" for name in ("margin", "chosen")]
        cells = [
            row["name"],
            interval_text(row["accuracy"]),
            *(interval_text(row["less"].get(name), "+") for name in against),
        ]
        lines.append("| " + " | ".join([*cells, f"{row['prefers_longer']:.2f}", *nats]) + " |")
    return "\n".join(lines)
