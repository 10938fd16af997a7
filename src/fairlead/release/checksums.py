"""The checksums of a released folder: SHA256SUMS over every file, so that a damaged or altered copy is found.

They are no signature: whoever can replace every file can write new sums. Compare the sums with those that the release
printed, or sign SHA256SUMS, where that matters.
"""

from __future__ import annotations

from pathlib import Path

from fairlead.documents.release import ReleaseEvidence
from fairlead.errors import ArtifactError
from fairlead.files import folder_entries, hash_file, read_text, write_atomic

SUMS = "SHA256SUMS"
EVIDENCE = "evidence.json"
_NOT_OURS = (SUMS, ".gitattributes", ".cache", ".git")  # the sums themselves, and what a hub or its client adds
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".ckpt", ".pkl")


def write_checksums(folder: Path) -> dict[str, str]:
    """Writes SHA256SUMS, in the form that `sha256sum --check` reads, and returns it.

    Raises:
        ArtifactError: if the folder holds a link, a pipe or an empty folder, which no checksum can stand for.
    """
    files, odd = _entries(folder)
    if odd:
        raise ArtifactError(f"{odd[0]} is no regular file", where=str(folder), remedy="a release holds files alone")
    sums = {name: hash_file(folder / name) for name in files}
    write_atomic(folder / SUMS, _text(sums))
    return sums


def verify(folder: Path) -> dict[str, str]:
    """Compares a released folder with its checksums, and its weights with those that the evidence names.

    Returns:
        The SHA-256 of every file.

    Raises:
        ArtifactError: naming everything that is missing, changed or new.
    """
    path = folder / SUMS
    if not path.is_file():
        raise ArtifactError(
            f"has no {SUMS}", where=str(folder), remedy="give the folder that fairlead release has written"
        )
    text = read_text(path)
    lines = [line.partition("  ") for line in text.splitlines()]
    expected = {name: digest for digest, _, name in lines}
    files, odd = _entries(folder)
    actual = {name: hash_file(folder / name) for name in files}
    faults = [] if text == _text(expected) else [f"{SUMS} is not as it was written"]
    faults += [f"{name} is missing" for name in expected if name not in actual]
    faults += [
        f"{name} is not what was released" for name, digest in expected.items() if actual.get(name, digest) != digest
    ]
    faults += [f"{name} was not released" for name in actual if name not in expected]
    faults += [f"{name} is no regular file and was not released" for name in odd]
    if not faults:
        faults = _against_evidence(folder, actual)
    if faults:
        raise ArtifactError("; ".join(faults), where=str(folder), remedy="get the release anew; do not use this copy")
    return actual


def _against_evidence(folder: Path, actual: dict[str, str]) -> list[str]:
    """Weights and gate record against the hashes that the evidence names, and weights that it does not name."""
    evidence = ReleaseEvidence.read(folder / EVIDENCE)
    named = dict(evidence.weights)
    if evidence.gate_record is not None:
        named["gate.json"] = evidence.gate_record
    faults = [f"{name} is not what {EVIDENCE} names" for name, digest in named.items() if actual.get(name) != digest]
    weights = [name for name in actual if name.endswith(_WEIGHTS)]
    return faults + [f"{name} are weights that {EVIDENCE} does not name" for name in weights if name not in named]


def _entries(folder: Path) -> tuple[list[str], list[str]]:
    """Regular files, and links, pipes and empty folders, without what a hub or its client puts beside a release."""
    files, odd = folder_entries(folder)
    return [n for n in files if n.split("/")[0] not in _NOT_OURS], [n for n in odd if n.split("/")[0] not in _NOT_OURS]


def _text(sums: dict[str, str]) -> str:
    return "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))
