"""The schema beside a `fairlead.yaml`, and the line that makes editors use it.

Editors with a YAML server (VS Code's YAML extension, Neovim, Helix, JetBrains) then complete keys, show what they do
and mark mistakes. The schema is a file of the project, because there is no address from which every version could be
loaded.
"""

from __future__ import annotations

import json
from pathlib import Path

from fairlead.config.project import CONFIG_NAME
from fairlead.config.reference.json_schema import config_schema
from fairlead.files import read_text, write_atomic

SCHEMA_FILE = ".fairlead/schema.json"
EDITOR_LINE = f"# yaml-language-server: $schema={SCHEMA_FILE}\n"


def write_config(folder: Path, text: str) -> Path:
    """Writes a `fairlead.yaml` that begins with the editor's line, and the schema beside it."""
    path = folder / CONFIG_NAME
    _write_schema(folder)
    write_atomic(path, text if text.startswith(EDITOR_LINE) else EDITOR_LINE + text)
    return path


def refresh_schema(folder: Path) -> None:
    """Writes the schema anew where `fairlead.yaml` names it and it is missing or of another version."""
    if EDITOR_LINE in read_text(folder / CONFIG_NAME):
        _write_schema(folder)


def _write_schema(folder: Path) -> None:
    path, text = folder / SCHEMA_FILE, json.dumps(config_schema(), ensure_ascii=False, indent=1) + "\n"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_atomic(path, text)
