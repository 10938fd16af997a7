"""Remedies in words and as config keys, less what the training does already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairlead.training.diagnosis.curves import Curves

# Facts of the log by the config key that sets them.
_FACTS = {
    "dpo.method": "method",
    "dpo.label_noise": "label_noise",
    "dpo.loss_type": "loss_type",
    "dpo.max_grad_norm": "max_grad_norm",
    "lora.dropout": "dropout",
    "lora.r": "rank",
    "model.dtype": "dtype",
    "watch.keep": "keep",
}


def advise(curves: Curves, *parts: tuple[str, Mapping[str, Any]]) -> tuple[str, dict[str, Any]]:
    """(words, keys) of the remedies that would change something.

    Args:
        parts: each in words, with the keys that do it; one without keys is always said.
    """
    words, keys = [], {}
    for said, wanted in parts:
        new = {key: value for key, value in wanted.items() if value is not None and not _holds(curves, key, value)}
        if new or not wanted:
            words.append(said)
            keys.update(new)
    return ", or ".join(words) or "what the config offers is in use: look at the pairs", keys


def _holds(curves: Curves, key: str, value: Any) -> bool:
    """Whether the training began with that value, or with one that does more of the same."""
    if key.startswith("lora.") and curves.facts.get("method") == "full":
        return True  # there is no adapter to change
    now = curves.facts.get(_FACTS.get(key, ""))
    if now is None:
        return False
    if key == "dpo.max_grad_norm":
        return bool(now <= value)
    if key in ("lora.dropout", "lora.r"):
        return bool(now >= value)
    return bool(now == (",".join(value) if isinstance(value, list) else value))


def rate(curves: Curves, factor: float) -> dict[str, Any]:
    """The learning rate times a factor."""
    now = curves.facts.get("learning_rate")
    return {} if now is None else {"dpo.learning_rate": float(f"{now * factor:.2g}")}


def beta(curves: Curves, factor: float) -> dict[str, Any]:
    """β times a factor."""
    return {} if not curves.beta else {"dpo.beta": float(f"{curves.beta * factor:.2g}")}


def shown(value: Any) -> str:
    """A value as YAML would have it."""
    if value is None:
        return "null"
    if isinstance(value, list):
        return "[" + ", ".join(map(str, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
