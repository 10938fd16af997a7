"""`fairlead data import`: any known form of preference pairs in, Fairlead's own out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fairlead.data.reading.readers import read_preferences
from fairlead.files import write_jsonl
from fairlead.records import to_json


def import_preferences(source: str, out: Path, *, split: str, form: str | None) -> dict[str, Any]:
    """Writes the pairs of `source` to `out`; returns how many, their form, and why rows were dropped.

    Raises:
        DataError: if the source cannot be read, or holds no usable pair.
    """
    imported = read_preferences(source, Path(), split=split, format=form)
    write_jsonl(out, map(to_json, imported.preferences))
    return {
        "pairs": len(imported.preferences),
        "format": imported.format,
        "dropped": imported.dropped_by_reason,
        "ignored_fields": dict(imported.ignored_fields),
        **({"outcomes": dict(imported.outcomes)} if imported.outcomes else {}),
        "out": str(out),
    }
