"""The seal of a released folder: SHA256SUMS over every file, so that one flipped byte anywhere is found."""

from __future__ import annotations

from pathlib import Path

from fairlead.errors import ArtifactError
from fairlead.files import hash_file, read_json, read_text, write_atomic

SUMS = "SHA256SUMS"
EVIDENCE = "evidence.json"
_NOT_OURS = (SUMS, ".gitattributes", ".cache", ".git")


def seal(folder: Path) -> dict[str, str]:
    """Writes SHA256SUMS, in the form that `sha256sum --check` reads, and returns it."""
    sums = {name: hash_file(folder / name) for name in _files(folder)}
    write_atomic(folder / SUMS, _text(sums))
    return sums


def verify(folder: Path) -> dict[str, str]:
    """Compares a released folder with its seal, and its weights with those that the gate judged.

    Returns:
        The SHA-256 of every file.

    Raises:
        ArtifactError: naming every file that is missing, changed or new.
    """
    path = folder / SUMS
    if not path.is_file():
        raise ArtifactError(
            f"has no {SUMS}", where=str(folder), remedy="give the folder that fairlead release has written"
        )
    text = read_text(path)
    lines = [line.partition("  ") for line in text.splitlines()]
    sums = {name: digest for digest, _, name in lines}
    found = {name: hash_file(folder / name) for name in _files(folder)}
    faults = [] if text == _text(sums) else [f"{SUMS} is not as it was written"]
    faults += [f"{name} is missing" for name in sums if name not in found]
    faults += [f"{name} is not what was released" for name, digest in sums.items() if found.get(name, digest) != digest]
    faults += [f"{name} was not released" for name in found if name not in sums]
    if not faults:
        faults = _against_evidence(folder, found)
    if faults:
        raise ArtifactError("; ".join(faults), where=str(folder), remedy="get the release anew; do not use this copy")
    return found


def _against_evidence(folder: Path, found: dict[str, str]) -> list[str]:
    """Weights and gate record against the hashes that the evidence names."""
    evidence = read_json(folder / EVIDENCE)
    named = {**evidence["weights"], **({"gate.json": evidence["gate_record"]} if evidence["gate_record"] else {})}
    return [f"{name} is not what {EVIDENCE} names" for name, digest in named.items() if found.get(name) != digest]


def _files(folder: Path) -> list[str]:
    """What is released: all but the seal itself and what a hub or its client puts beside it."""
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(name.as_posix() for name in names if name.parts[0] not in _NOT_OURS)


def _text(sums: dict[str, str]) -> str:
    return "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))
