"""The rows of a `metrics.jsonl` as curves. Knows the keys of the log and nothing of what they mean."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]

_TEXTS = ("run/loss_type", "run/method", "run/keep", "run/label_noise", "run/dtype")


@dataclass(frozen=True)
class Curves:
    """One training of DPO.

    Attributes:
        facts: what the training began with, keys without `run/`.
        train: rows of training steps, by step; of a step that was logged twice the later.
        validation: rows of validation passes.
        looks: rows with samples of the policy.
        start: figures of the reference's samples and of general text before the training, keys without `watch/`.
    """

    facts: Row
    train: tuple[Row, ...]
    validation: tuple[Row, ...]
    looks: tuple[Row, ...]
    start: Row

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Curves:
        """Sorts the rows of a log; other rows are passed over; what is no finite number becomes None."""
        facts: dict[str, Any] = {}
        start: dict[str, Any] = {}
        rows = [_clean(row) for row in rows if isinstance(row, Mapping) and number(row.get("step")) is not None]
        for row in rows:
            facts |= {key.removeprefix("run/"): value for key, value in row.items() if key.startswith("run/")}
            start |= {
                key.removeprefix("watch/"): value
                for key, value in row.items()
                if key.startswith("watch/reference_") or key == "watch/general_loss_start"
            }
        return cls(
            facts,
            _by_step(rows, lambda row: "loss" in row),
            _by_step(rows, lambda row: "eval_loss" in row),
            _by_step(rows, lambda row: "watch/kl" in row),
            start,
        )

    @property
    def trend(self) -> tuple[Row, ...]:
        """Validation passes that can be compared: over as many pairs as the first one, which may not be all."""
        return tuple(row for row in self.validation if row.get("eval_pairs") == self.validation[0].get("eval_pairs"))

    @property
    def step(self) -> int:
        """The last step of which anything is known."""
        return max((int(rows[-1]["step"]) for rows in (self.train, self.validation, self.looks) if rows), default=0)

    @property
    def done(self) -> float | None:
        """Share of the training that is over; None where its length is not known."""
        steps = self.facts.get("steps")
        return min(1.0, self.step / steps) if steps else None

    @property
    def beta(self) -> float | None:
        return self.facts.get("beta")

    def nats(self, row: Row, key: str) -> float | None:
        """A reward or gap of a row as a difference of log-ratios, β divided out."""
        value = row.get(key)
        return None if value is None or not self.beta else value / self.beta

    def recent(self, key: str, share: float = 0.25) -> float | None:
        """Mean of a figure over the last part of the training rows; a single batch says little."""
        values = series(self.train, key)
        kept = values[-max(1, round(share * len(values))) :]
        return sum(kept) / len(kept) if kept else None


def number(value: Any) -> float | None:
    """A finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def series(rows: Sequence[Row], key: str) -> list[float]:
    """All known values of a figure, in order."""
    return [found for row in rows if (found := number(row.get(key))) is not None]


def last(rows: Sequence[Row], key: str) -> float | None:
    """The newest known value of a figure."""
    return next(reversed(series(rows, key)), None)


def _clean(row: Row) -> dict[str, Any]:
    return {key: value if key in _TEXTS and isinstance(value, str) else number(value) for key, value in row.items()}


def _by_step(rows: Sequence[Row], wanted: Callable[[Row], bool]) -> tuple[Row, ...]:
    found = {int(row["step"]): row for row in rows if wanted(row)}
    return tuple(found[step] for step in sorted(found))
