"""Refuses a base model that is an adapter, at once: it would be found out only where the first stage loads it."""

from __future__ import annotations

from pathlib import Path

from fairlead.config.model import ModelSection
from fairlead.errors import ConfigError, DataError
from fairlead.files import read_json

ADAPTER_CONFIG = "adapter_config.json"


def refuse_adapter_as_base(model: ModelSection, folder: Path) -> None:
    """Refuses a `model.name` that is the folder of a PEFT adapter.

    Args:
        folder: the project folder, against which `model.name` is resolved.

    Raises:
        ConfigError: with what to write instead.
    """
    named = Path(model.name).expanduser()
    path = (named if named.is_absolute() else folder / named) / ADAPTER_CONFIG
    if path.is_file():
        raise adapter_as_base(model.name, str(path.parent), _base_of(path))


def adapter_as_base(name: str, where: str, base: str | None) -> ConfigError:
    """The error about an adapter that is named as the base model.

    Args:
        base: the base model that the adapter's config names, if it names one.
    """
    return ConfigError(
        f"model.name names a PEFT adapter ({name}), not a base model",
        where=where,
        remedy=f"set model.name to its base{'' if base is None else f', {base},'} and bring the adapter as "
        f"sft: {{from: {name}}}",
    )


def _base_of(path: Path) -> str | None:
    try:
        content = read_json(path)
    except DataError:
        return None
    base = content.get("base_model_name_or_path") if isinstance(content, dict) else None
    return base if isinstance(base, str) and base else None
