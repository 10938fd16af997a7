"""Checks and cleans files of pairs, SFT rows and prompts, and checks that a split does not leak."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairlead.config.data import CHECK_NAMES, DataCheckSettings
from fairlead.config.model import ModelSection
from fairlead.data.checks.quality import check_pairs
from fairlead.data.checks.row_quality import check_rows
from fairlead.data.checks.row_tokens import token_count
from fairlead.data.reading.any_rows import WORDS, AnyRows, prompts_of, read_any
from fairlead.data.reading.readers import read_prompts
from fairlead.documents.data_check import DataCheck
from fairlead.errors import DataError, LeakError, known_names, some
from fairlead.files import write_jsonl
from fairlead.records import Example, Preference, Prompt, to_json
from fairlead.text.near_duplicates import overlaps
from fairlead.text.words import asked

Read = AnyRows[Preference] | AnyRows[Example] | AnyRows[Prompt]


def check_file(
    source: str,
    *,
    split: str,
    form: str | None,
    evaluation: Path | None,
    settings: DataCheckSettings,
    similarity: float,
    model: str | None = None,
    max_length: int = 1024,
) -> tuple[DataCheck, Read]:
    """Checks a file, a saved data set or one of the hub, also one that holds no usable row.

    Args:
        model: folder or hub id of the model whose tokenizer counts the tokens of SFT rows and prompts.
        max_length: tokens that they may have.

    Raises:
        DataError: if it cannot be read, or a row is malformed.
        ModelError: if the tokenizer cannot be loaded.
    """
    read = read_any(source, split=split, format=form, allow_none=True)
    options = {"--split": split if split != "train" else None, "--format": form, "--eval": evaluation, "--model": model}
    arguments = [str(part) for name, value in options.items() if value is not None for part in (name, value)]
    arguments += [] if similarity == 0.8 else ["--similarity", str(similarity)]
    arguments += [] if model is None else ["--max-length", str(max_length)]
    dropped = [(row.place, row.reason) for row in read.dropped]
    eval_texts = None if evaluation is None else [asked(prompt) for prompt in read_prompts(evaluation)]

    def mend(name: str) -> str:
        return shlex.join(["fairlead", "data", "clean", source, *arguments, "--drop", name, "--out", "cleaned.jsonl"])

    if read.kind == "preferences":
        if model is not None:
            raise DataError("--model is for SFT rows and prompts", where=source, remedy="leave it out for pairs")
        pairs = [record for record in read.records if isinstance(record, Preference)]
        report = check_pairs(
            pairs,
            read.places,
            settings,
            source=source,
            similarity=similarity,
            dropped=dropped,
            eval_texts=eval_texts,
            mend=mend,
        )
        return report, read
    report = check_rows(
        [record for record in read.records if not isinstance(record, Preference)],
        read.places,
        settings,
        source=source,
        similarity=similarity,
        mend=mend,
        is_sft=read.kind == "sft",
        dropped=dropped,
        eval_texts=eval_texts,
        tokens=None if model is None else token_count(ModelSection.model_validate({"name": model}), Path()),
        max_length=max_length,
    )
    return report, read


def clean_file(report: DataCheck, read: Read, drop: Sequence[str], out: Path) -> dict[str, Any]:
    """Writes the rows without those that the named checks are about; what makes no row is left out anyway.

    Raises:
        DataError: if there is no such check, it is not about rows, or nothing is left.
    """
    by_name = {finding.check: finding for finding in report.findings}
    for name in drop:
        if name not in by_name:
            if name not in CHECK_NAMES:
                raise DataError(f"no check {name!r}", remedy=known_names(name, CHECK_NAMES))
            raise DataError(f"the check {name} was not made", remedy=_UNMADE.get(name, f"not of {WORDS[read.kind]}"))
    dropped = {place for name in drop for place in by_name[name].rows}
    rows: list[Preference | Example | Prompt] = [*read.records]
    remaining = [row for row, place in zip(rows, read.places, strict=True) if place not in dropped]
    if not remaining:
        raise DataError("no row is left", where=report.source, remedy="drop for fewer checks")
    write_jsonl(out, map(to_json, remaining))
    return {
        "kind": read.kind,
        "rows": len(remaining),
        **({"pairs": len(remaining)} if read.kind == "preferences" else {}),
        "dropped": len(rows) + len(read.dropped) - len(remaining),
        "out": str(out),
    }


_UNMADE = {
    "eval_overlap": "name the held-out prompts: --eval FILE",
    "too_long": "name the model whose tokens count: --model NAME",
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
