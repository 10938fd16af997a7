"""Checks, cleans and splits preference files, and checks that a split does not leak."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairlead.config.data import CHECK_NAMES, DataCheckSettings
from fairlead.data.quality import check_pairs
from fairlead.data.reading.any_rows import prompts_of
from fairlead.data.reading.readers import LoadedPreferences, read_preferences, read_prompts
from fairlead.documents.data_check import DataCheck
from fairlead.errors import DataError, LeakError, known_names, some
from fairlead.files import write_jsonl
from fairlead.records import Prompt, to_json
from fairlead.text.near_duplicates import overlaps
from fairlead.text.words import asked


def check_file(
    source: str,
    *,
    split: str,
    form: str | None,
    evaluation: Path | None,
    settings: DataCheckSettings,
    similarity: float,
) -> tuple[DataCheck, LoadedPreferences]:
    """Checks a file, a saved data set or one of the hub, also one that holds no usable pair.

    Raises:
        DataError: if it cannot be read, or a row is malformed.
    """
    imported = read_preferences(source, Path(), split=split, format=form, allow_none=True)
    options = {"--split": split if split != "train" else None, "--format": form, "--eval": evaluation}
    arguments = [str(part) for name, value in options.items() if value is not None for part in (name, value)]
    arguments += [] if similarity == 0.8 else ["--similarity", str(similarity)]
    report = check_pairs(
        imported.preferences,
        imported.places,
        settings,
        source=source,
        similarity=similarity,
        dropped=[(row.place, row.reason) for row in imported.dropped],
        eval_texts=None if evaluation is None else [asked(prompt) for prompt in read_prompts(evaluation)],
        mend=lambda name: shlex.join(
            ["fairlead", "data", "clean", source, *arguments, "--drop", name, "--out", "cleaned.jsonl"]
        ),
    )
    return report, imported


def clean_file(report: DataCheck, imported: LoadedPreferences, drop: Sequence[str], out: Path) -> dict[str, Any]:
    """Writes the pairs without those that the named checks are about; rows that make no pair are left out anyway.

    Raises:
        DataError: if there is no such check, it is not about rows, or nothing is left.
    """
    by_name = {finding.check: finding for finding in report.findings}
    for name in drop:
        if name not in by_name:
            if name not in CHECK_NAMES:
                raise DataError(f"no check {name!r}", remedy=known_names(name, CHECK_NAMES))
            raise DataError(f"the check {name} was not made", remedy="name the held-out prompts: --eval FILE")
    dropped = {place for name in drop for place in by_name[name].rows}
    remaining = [p for p, place in zip(imported.preferences, imported.places, strict=True) if place not in dropped]
    if not remaining:
        raise DataError("no pair is left", where=report.source, remedy="drop for fewer checks")
    write_jsonl(out, map(to_json, remaining))
    return {
        "pairs": len(remaining),
        "dropped": len(imported.preferences) + len(imported.dropped) - len(remaining),
        "out": str(out),
    }


@dataclass(frozen=True)
class Leak:
    """A prompt of one file that repeats one of another, exactly (similarity 1) or nearly, or is of the same cluster."""

    file: str
    prompt: str
    other: str
    other_prompt: str
    similarity: float | None


def verify_split(files: Sequence[Path], similarity: float) -> dict[str, Any]:
    """Checks that no two files share a prompt, a near-duplicate of one, or a declared cluster.

    Raises:
        DataError: if fewer than two files are given, or one cannot be read.
        LeakError: naming the first leaks.
    """
    if len(files) < 2:
        raise DataError("at least two files are needed", where="--verify")
    read = [(file, _distinct(prompts_of(file))) for file in files]
    leaks = [
        leak
        for number, one in enumerate(read)
        for other in read[number + 1 :]
        for leak in _leaks(one, other, similarity)
    ]
    if leaks:
        examples = [f"{leak.file} {leak.prompt[:50]!r} ~ {leak.other} {leak.other_prompt[:50]!r}" for leak in leaks]
        raise LeakError(
            f"{len(leaks)} prompts stand in two files, or nearly: {some(examples, 3)}",
            where=", ".join(map(str, files)),
            remedy="split again with: fairlead data split FILE --out FOLDER",
        )
    return {"prompts": {str(file): len(prompts) for file, prompts in read}, "leaks": 0, "similarity": similarity}


def _leaks(one: tuple[Path, list[Prompt]], other: tuple[Path, list[Prompt]], similarity: float) -> list[Leak]:
    (file, prompts), (other_file, others) = one, other
    overlapping = overlaps([asked(p) for p in prompts], [asked(p) for p in others], similarity)
    leaks = [
        Leak(str(file), asked(prompts[n]), str(other_file), asked(others[m]), share)
        for n, (m, share) in overlapping.items()
    ]
    clusters = {prompt.cluster: prompt for prompt in others if prompt.cluster}
    leaks += [
        Leak(str(file), asked(p), str(other_file), asked(clusters[p.cluster]), None)
        for n, p in enumerate(prompts)
        if p.cluster in clusters and n not in overlapping
    ]
    return leaks


def _distinct(prompts: Sequence[Prompt]) -> list[Prompt]:
    return list({(prompt.id, prompt.cluster): prompt for prompt in prompts}.values())
