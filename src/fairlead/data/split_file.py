"""`fairlead data split`: files for training, the decision and the evaluation from one file of rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairlead.data.reading.any_rows import WORDS, read_any
from fairlead.data.splits import split_by_count
from fairlead.data.yaml_line import data_line
from fairlead.documents.data_check import Kind
from fairlead.errors import ConfigError, DataError
from fairlead.files import write_jsonl
from fairlead.records import Example, Preference, Prompt, to_json

_HELD_OUT = ("eval", "dev", "validation")  # in the order in which they are drawn
_PARTS = ("train", "validation", "dev", "eval")


def split_file(
    source: str, out: Path, sizes: Mapping[str, str], *, split: str, form: str | None, seed: int, similarity: float
) -> dict[str, Any]:
    """Writes train.jsonl and a file for each part that has a size; returns what became of the rows.

    Near-duplicate prompts and prompts of one cluster are in one file. The order of the rows does not matter.

    Args:
        sizes: of eval, dev and validation: a share of the prompts, as 0.1, or a number of prompts, as 150; 0 for none.

    Raises:
        ConfigError: if a size is neither, or the sizes leave nothing to train on.
        DataError: if the file cannot be read or a part stays empty.
    """
    read = read_any(source, split=split, format=form)
    prompts = list({prompt.id: prompt for prompt in read.prompts}.values())
    wanted = {name: _count(name, sizes.get(name, "0"), len(prompts)) for name in _HELD_OUT}
    if sum(wanted.values()) >= len(prompts):
        asked = ", ".join(f"--{name} {sizes[name]}" for name in _HELD_OUT if wanted[name])
        raise ConfigError(
            f"{asked} leave nothing to train on",
            where=source,
            remedy=f"it has {len(prompts)} distinct prompts; ask for fewer",
        )
    of_part = _parts(prompts, wanted, source, seed, similarity)
    rows: list[Preference | Example | Prompt] = [*read.records]
    records = {
        name: [record for record, prompt in zip(rows, read.prompts, strict=True) if of_part[prompt.id] == name]
        for name in _PARTS
        if name == "train" or wanted[name]
    }
    for name, of_name in records.items():
        write_jsonl(out / f"{name}.jsonl", map(to_json, of_name))
    return {
        **{name: len(of_name) for name, of_name in records.items()},
        "kind": read.kind,
        "prompts": {name: sum(part == name for part in of_part.values()) for name in records},
        "wanted": {name: count for name, count in wanted.items() if count},
        "dropped": read.dropped_by_reason,
        "ignored_fields": dict(read.ignored_fields),
        "yaml": _yaml(read.kind, out, list(records)),
        "out": str(out),
    }


def split_lines(summary: Mapping[str, Any], left_out: str) -> list[str]:
    """What a split did, for people."""
    prompts: Mapping[str, int] = summary["prompts"]
    parts = ", ".join(f"{name} {summary[name]}" for name in prompts)
    total = sum(prompts.values())
    rows = sum(summary[name] for name in prompts)
    of_prompts = f" of {total} prompts" if rows != total else ""
    lines = [f"{rows} {WORDS[summary['kind']]}{of_prompts}: {parts} → {summary['out']}"]
    missed = {name: count for name, count in summary["wanted"].items() if prompts[name] != count}
    if missed:
        words = ", ".join(f"{name} has {prompts[name]} prompts, not {count}" for name, count in missed.items())
        lines.append(f"near-duplicates and prompts of one cluster stay together: {words}")
    return [*lines, *([left_out] if left_out else []), f"write into fairlead.yaml: {summary['yaml']}"]


def _count(name: str, size: str, prompts: int) -> int:
    """How many prompts a size means."""
    try:
        number = float(size)
    except ValueError:
        number = -1.0
    if 0 < number < 1:
        return max(1, round(number * prompts))
    if number < 0 or number == float("inf") or number != int(number):
        remedy = "give a share of the prompts, as 0.1, or a number of them, as 150"
        raise ConfigError(f"{size!r} is no size", where=f"--{name}", remedy=remedy)
    return int(number)


def _parts(
    prompts: list[Prompt], wanted: Mapping[str, int], source: str, seed: int, similarity: float
) -> dict[str, str]:
    """The part of each prompt, by its id."""
    of_part = dict.fromkeys((prompt.id for prompt in prompts), "train")
    remaining = prompts
    for number, name in enumerate(_HELD_OUT):
        if not wanted[name]:
            continue
        kept, drawn = split_by_count(remaining, wanted[name], seed=seed + number, threshold=similarity)
        if not drawn:
            raise DataError(
                f"nothing is left for {name}: the prompts are near-duplicates of each other or of one cluster",
                where=source,
                remedy="give more prompts, or raise --similarity",
            )
        of_part |= {remaining[index].id: name for index in drawn}
        remaining = [remaining[index] for index in kept]
    return of_part


def _yaml(kind: Kind, out: Path, parts: list[str]) -> str:
    """The files under the keys that a project reads them from; a project splits its validation pairs itself."""
    return data_line(
        {kind if name == "train" else name: out / f"{name}.jsonl" for name in parts if name != "validation"}
    )
