"""Writes a new project. Asks nothing, and never writes over a file that is there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from fairlead.config.project import CONFIG_NAME
from fairlead.config.reference.editor import write_config
from fairlead.config.template import template
from fairlead.errors import ConfigError, known_names
from fairlead.files import write_atomic

EXAMPLES = ("chat", "triage", "pairs")
STAND_IN = "stand-in-model"  # the folder of an example's model, as its fairlead.yaml names it
_NAME_LINE = "\nname: my-project\n"


def write_short(folder: Path) -> list[Path]:
    """A `fairlead.yaml` of the keys that people set, with a judge of every kind."""
    return _write(folder, {CONFIG_NAME: short_template(folder)})


def write_full(folder: Path) -> list[Path]:
    """A `fairlead.yaml` with every key, its default and its description."""
    return _write(folder, {CONFIG_NAME: template(_name(folder))})


def write_example(folder: Path, name: str) -> list[Path]:
    """An example project with ten rows in every file, without its model.

    Raises:
        ConfigError: if there is no such example, or a file that it would write is there already.
    """
    if name not in EXAMPLES:
        raise ConfigError(f"there is no example {name!r}", where="--from", remedy=known_names(name, EXAMPLES))
    root = resources.files("fairlead.starters") / "examples" / name
    return _write(folder, {path: file.read_text(encoding="utf-8") for path, file in _files(root, "").items()})


def short_template(folder: Path) -> str:
    """The text of a short `fairlead.yaml`, named after the folder."""
    text = (resources.files("fairlead.starters") / "short.yaml").read_text(encoding="utf-8")
    return text.replace(_NAME_LINE, f"\nname: {json.dumps(_name(folder), ensure_ascii=False)}\n", 1)


def _name(folder: Path) -> str:
    return folder.resolve().name[:100] or "my-project"


def _files(root: Traversable, at: str) -> dict[str, Traversable]:
    files: dict[str, Traversable] = {}
    for item in sorted(root.iterdir(), key=lambda item: item.name):
        path = f"{at}{item.name}"
        files |= _files(item, f"{path}/") if item.is_dir() else {path: item}
    return files


def _write(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    present = next((folder / name for name in texts if (folder / name).exists()), None)
    if present is not None:
        raise ConfigError("is there already", where=str(present), remedy="edit it, or choose another folder")
    for name, text in texts.items():
        if name == CONFIG_NAME:
            write_config(folder, text)
        else:
            write_atomic(folder / name, text)
    return [folder / name for name in texts]
