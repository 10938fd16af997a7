"""`fairlead data export`: preference pairs in the forms that others read.

Reading them back gives the same prompts and answers; Fairlead's own form gives the same pairs whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fairlead.data.reading.formats import PLAIN_REQUEST
from fairlead.errors import DataError, known_names
from fairlead.files import atomic_path, write_jsonl
from fairlead.models.chat import assistant_turn, conversation
from fairlead.records import Imported, Preference, to_json

Row = dict[str, Any]


def trl(pair: Preference) -> Row:
    """TRL's conversational form."""
    return {
        "prompt": conversation(pair.prompt),
        "chosen": assistant_turn(pair.chosen),
        "rejected": assistant_turn(pair.rejected),
    }


def openai(pair: Preference) -> Row:
    """OpenAI's form of preference fine-tuning, with the tools that the request came with."""
    request = pair.provenance.request if isinstance(pair.provenance, Imported) else None
    options = {name: value for name, value in (request or PLAIN_REQUEST).items() if name in PLAIN_REQUEST}
    return {
        "input": {**options, "messages": conversation(pair.prompt)},
        "preferred_output": assistant_turn(pair.chosen),
        "non_preferred_output": assistant_turn(pair.rejected),
    }


# Fairlead's own form alone keeps margin, gold, cluster and provenance: other programs refuse columns they do not know.
FORMS: Mapping[str, Callable[[Preference], Row]] = {"trl": trl, "openai": openai, "parquet": trl, "fairlead": to_json}


def export(pairs: Sequence[Preference], form: str, out: Path) -> int:
    """Writes pairs to a file of a form, with the columns of that form and no others; returns how many.

    Raises:
        DataError: if there is no such form.
        DiskError: if the file cannot be written.
    """
    if form not in FORMS:
        raise DataError(f"unknown form {form!r}", remedy=known_names(form, FORMS))
    rows = [FORMS[form](pair) for pair in pairs]
    if form != "parquet":
        return write_jsonl(out, rows)
    _write_parquet(out, rows)
    return len(rows)


def _write_parquet(out: Path, rows: Sequence[Row]) -> None:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    turns = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    schema = pa.schema([(name, turns) for name in ("prompt", "chosen", "rejected")])
    with atomic_path(out) as temporary:
        pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), temporary)
