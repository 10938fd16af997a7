"""The line of `fairlead.yaml` that uses files which a command has written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from fairlead.config.project import CONFIG_NAME


def data_line(files: Mapping[str, Path]) -> str:
    """`data: {…}` with the files under their keys, relative to the project that they lie in.

    Paths of the config are relative to its folder, those of a command to the working directory. Files outside of any
    project keep the path that was given.
    """
    values = {key: str(_in_project(file)) for key, file in files.items()}
    mapping = yaml.safe_dump(values, default_flow_style=True, sort_keys=False, allow_unicode=True, width=2**31)
    return f"data: {mapping.strip()}"


def _in_project(file: Path) -> Path:
    whole = file.expanduser().resolve()
    project = next((folder for folder in whole.parents if (folder / CONFIG_NAME).is_file()), None)
    return file if project is None else whole.relative_to(project)
