"""Remedies in words and as config keys, without those that the training uses already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fairlead.documents.diagnosis import ConfigValue
from fairlead.training.diagnosis.curves import Curves
from fairlead.training.measurements import RunFacts

Keys = Mapping[str, ConfigValue]


class Remedy(NamedTuple):
    """What to do, in words and as keys of `fairlead.yaml` with values to try."""

    words: str
    keys: dict[str, ConfigValue]


def advise(curves: Curves, *options: tuple[str, Keys]) -> Remedy:
    """The remedies that would change something.

    Args:
        options: each in words, with the keys that do it; one without keys is always named.
    """
    words: list[str] = []
    keys: dict[str, ConfigValue] = {}
    for text, values in options:
        new = {key: value for key, value in values.items() if value is not None and not _in_use(curves, key, value)}
        if new or not values:
            words.append(text)
            keys.update(new)
    return Remedy(", or ".join(words) or "what the config offers is in use: look at the pairs", keys)


def learning_rate(curves: Curves, factor: float) -> dict[str, ConfigValue]:
    """The learning rate times a factor."""
    rate = curves.facts.learning_rate
    return {} if rate is None else {"dpo.learning_rate": float(f"{rate * factor:.2g}")}


def beta(curves: Curves, factor: float) -> dict[str, ConfigValue]:
    """β times a factor."""
    return {} if not curves.facts.beta else {"dpo.beta": float(f"{curves.facts.beta * factor:.2g}")}


def _in_use(curves: Curves, key: str, value: ConfigValue) -> bool:
    """Whether the training began with that value, or with one that does more of the same."""
    if key.startswith("lora.") and curves.facts.method == "full":
        return True  # there is no adapter to change
    current = _current(curves.facts, key)
    if current is None:
        return False
    if isinstance(current, float | int) and isinstance(value, float | int):
        return current <= value if key == "dpo.max_grad_norm" else current >= value
    return current == (",".join(value) if isinstance(value, list) else value)


def _current(facts: RunFacts, key: str) -> float | str | None:
    """What the training began with, by the config key that sets it; None where it is not logged."""
    values: dict[str, float | str | None] = {
        "dpo.method": facts.method,
        "dpo.label_noise": facts.label_noise,
        "dpo.loss_type": facts.loss_type,
        "dpo.max_grad_norm": facts.max_grad_norm,
        "lora.dropout": facts.dropout,
        "lora.r": facts.rank,
        "model.dtype": facts.dtype,
        "watch.keep": facts.keep,
    }
    return values.get(key)
