"""Files: whole or absent, and an error that names the line."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.errors import DataError, DiskError
from fairlead.files import read_jsonl, write_atomic, write_jsonl


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=False)
    if mounted.returncode != 0:
        pytest.skip("a small file system cannot be mounted here (needs root)")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_line_and_the_old_file_stays(small_disk: Path) -> None:
    write_atomic(small_disk / "a.txt", "old")
    with pytest.raises(DiskError, match="the disk is full; nothing that was finished is lost"):
        write_atomic(small_disk / "a.txt", "x" * 200_000)
    assert (small_disk / "a.txt").read_text() == "old"
    assert os.listdir(small_disk) == ["a.txt"]  # noqa: PTH208


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}\n{"a": 2', r"rows\.jsonl:2: not a JSON line"),
        (b'{"a": 1}\ncaf\xe9\n', r"rows\.jsonl:2: not UTF-8"),
        (b"[" * 100_000 + b"]" * 100_000, r"rows\.jsonl:1: not a readable JSON line: nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", r"rows\.jsonl:1: not a readable JSON line: a number has too many digits"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "rows.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(read_jsonl(tmp_path / "rows.jsonl"))


def test_not_a_number_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        write_jsonl(tmp_path / "rows.jsonl", [{"value": float("nan")}])
    assert not (tmp_path / "rows.jsonl").exists()
