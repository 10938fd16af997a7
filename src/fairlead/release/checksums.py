"""The checksums of a released folder: SHA256SUMS covers every file, so that a damaged or altered copy is detected.

They are not a signature: whoever can replace every file can also write new checksums. Where that matters, compare them
with those that `fairlead release` printed, or sign SHA256SUMS.
"""

from __future__ import annotations

from pathlib import Path

from fairlead.documents.release import ReleaseEvidence
from fairlead.errors import ArtifactError
from fairlead.files import folder_entries, hash_file, read_text, write_atomic

SUMS = "SHA256SUMS"
EVIDENCE = "evidence.json"
_NOT_OURS = (SUMS, ".gitattributes", ".cache", ".git")  # the checksums themselves, and what a hub or its client adds
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".ckpt", ".pkl")


def write_checksums(folder: Path) -> dict[str, str]:
    """Writes SHA256SUMS in the format of `sha256sum --check`, and returns the SHA-256 of every file.

    Raises:
        ArtifactError: if the folder holds a link, a pipe or an empty folder, which have no checksum.
    """
    files, odd = _entries(folder)
    if odd:
        raise ArtifactError(
            f"{odd[0]} is not a regular file", where=str(folder), remedy="a release holds regular files only"
        )
    sums = {name: hash_file(folder / name) for name in files}
    write_atomic(folder / SUMS, _text(sums))
    return sums


def verify(folder: Path) -> dict[str, str]:
    """Compares a released folder with SHA256SUMS, and its weights and gate record with the evidence.

    Returns:
        The SHA-256 of every file.

    Raises:
        ArtifactError: naming everything that is missing, changed or new.
    """
    path = folder / SUMS
    if not path.is_file():
        raise ArtifactError(f"has no {SUMS}", where=str(folder), remedy="give a folder that fairlead release wrote")
    text = read_text(path)
    lines = [line.partition("  ") for line in text.splitlines()]
    expected = {name: digest for digest, _, name in lines}
    files, odd = _entries(folder)
    actual = {name: hash_file(folder / name) for name in files}
    problems = [] if text == _text(expected) else [f"{SUMS} has been edited"]
    problems += [f"{name} is missing" for name in expected if name not in actual]
    problems += [
        f"{name} has changed since the release"
        for name, digest in expected.items()
        if actual.get(name, digest) != digest
    ]
    problems += [f"{name} was not released" for name in actual if name not in expected]
    problems += [f"{name} is not a regular file and was not released" for name in odd]
    if not problems:
        problems = _against_evidence(folder, actual)
    if problems:
        raise ArtifactError(
            "; ".join(problems), where=str(folder), remedy="download the release again; do not use this copy"
        )
    return actual


def _against_evidence(folder: Path, actual: dict[str, str]) -> list[str]:
    """Weights and gate record that differ from the hash in the evidence, and weights that it does not list."""
    evidence = ReleaseEvidence.read(folder / EVIDENCE)
    named = dict(evidence.weights)
    if evidence.gate_record is not None:
        named["gate.json"] = evidence.gate_record
    problems = [
        f"{name} differs from the hash in {EVIDENCE}" for name, digest in named.items() if actual.get(name) != digest
    ]
    weights = [name for name in actual if name.endswith(_WEIGHTS)]
    return problems + [f"{name} holds weights that {EVIDENCE} does not list" for name in weights if name not in named]


def _entries(folder: Path) -> tuple[list[str], list[str]]:
    """The regular files, and everything else (links, pipes, empty folders), without what a hub or its client adds."""
    files, odd = folder_entries(folder)
    return [n for n in files if n.split("/")[0] not in _NOT_OURS], [n for n in odd if n.split("/")[0] not in _NOT_OURS]


def _text(sums: dict[str, str]) -> str:
    return "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))
