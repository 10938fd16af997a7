"""`fairlead data export`: preference pairs in the forms that others read. Reading them back gives the same pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fairlead.data.reading.formats import PLAIN_REQUEST
from fairlead.errors import DataError, known_names
from fairlead.files import atomic_path, dump_json, write_jsonl
from fairlead.models.chat import assistant_turn, conversation
from fairlead.records import Imported, Preference

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
    options = PLAIN_REQUEST if request is None else request
    return {
        "input": {**options, "messages": conversation(pair.prompt)},
        "preferred_output": assistant_turn(pair.chosen),
        "non_preferred_output": assistant_turn(pair.rejected),
    }


FORMS: Mapping[str, Callable[[Preference], Row]] = {"trl": trl, "openai": openai, "parquet": trl}


def export(pairs: Sequence[Preference], form: str, out: Path, *, plain: bool = False) -> int:
    """Writes pairs to a file of a form; returns how many.

    Args:
        plain: only the columns of the published form. Otherwise margin, cluster, gold and provenance come along: the
            last two as JSON text, because a table cannot hold objects of differing fields.

    Raises:
        DataError: if there is no such form.
        DiskError: if the file cannot be written.
    """
    if form not in FORMS:
        raise DataError(f"unknown form {form!r}", remedy=known_names(form, FORMS))
    rows = [FORMS[form](pair) | ({} if plain else _about(pair)) for pair in pairs]
    if form != "parquet":
        return write_jsonl(out, rows)
    _write_parquet(out, rows)
    return len(rows)


def _about(pair: Preference) -> Row:
    return {
        "margin": pair.margin,
        "cluster": pair.prompt.cluster,
        "gold": dump_json(dict(pair.prompt.gold)),
        "provenance": dump_json({} if pair.provenance is None else asdict(pair.provenance)),
    }


def _write_parquet(out: Path, rows: Sequence[Row]) -> None:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    turns = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    types = {
        **dict.fromkeys(("prompt", "chosen", "rejected"), turns),
        "margin": pa.float64(),
        **dict.fromkeys(("cluster", "gold", "provenance"), pa.string()),
    }
    schema = pa.schema([(name, types[name]) for name in (rows[0] if rows else types)])
    with atomic_path(out) as temporary:
        pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), temporary)
