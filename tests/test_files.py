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


def test_what_is_not_a_regular_file_is_never_replaced(tmp_path: Path) -> None:
    target, link, pipe = tmp_path / "target", tmp_path / "link", tmp_path / "pipe"
    target.write_text("kept")
    link.symlink_to(target)
    os.mkfifo(pipe)
    for path, kind in ((link, "a symbolic link"), (pipe, "not a regular file"), (tmp_path, "a folder")):
        before = path.lstat()
        with pytest.raises(DiskError, match=f"is {kind} and is not replaced") as caught:
            write_atomic(path, "new")
        assert path.lstat().st_ino == before.st_ino
        assert "\n" not in str(caught.value)
    with pytest.raises(DiskError, match="is not a regular file"):
        write_atomic(Path("/dev/null"), "new")
    assert target.read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pipe", "target"]


def test_a_path_below_a_file_and_a_name_too_long_are_lines(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(DiskError, match=r"cannot write .* a part of the path is a file"):
        write_atomic(tmp_path / "file" / "below.txt", "x")
    with pytest.raises(DiskError, match=r"cannot write .* choose a shorter name"):
        write_atomic(tmp_path / ("n" * 300), "x")


def test_an_error_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a.txt", "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(tmp_path / "a.txt", "new \ud800")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644
