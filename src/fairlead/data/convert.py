"""`fairlead data import`: rows of any known form in, Fairlead's own out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairlead.data.reading.any_rows import read_any
from fairlead.documents.data_check import Kind
from fairlead.files import write_jsonl
from fairlead.records import to_json

FILES: Mapping[Kind, str] = {
    "preferences": "data/preferences.jsonl",
    "sft": "data/sft.jsonl",
    "prompts": "data/prompts.jsonl",
}


def import_rows(source: str, out: Path | None, *, split: str, form: str | None) -> dict[str, Any]:
    """Writes the pairs, SFT examples or prompts of `source`; returns how many, and why rows were dropped.

    Args:
        out: the file; None takes the one that a project reads such rows from.

    Raises:
        DataError: if the source cannot be read, or holds no usable row.
    """
    read = read_any(source, split=split, format=form)
    to = Path(FILES[read.kind]) if out is None else out
    write_jsonl(to, map(to_json, read.records))
    return {
        "kind": read.kind,
        "rows": len(read.records),
        **({"pairs": len(read.records)} if read.kind == "preferences" else {}),
        "format": read.format,
        "dropped": read.dropped_by_reason,
        "ignored_fields": dict(read.ignored_fields),
        **({"outcomes": dict(read.outcomes)} if read.outcomes else {}),
        "out": str(to),
    }
