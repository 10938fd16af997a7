"""Reading and writing files of rows, with errors that name the line, and atomic writes."""

from __future__ import annotations

import codecs
import errno
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from fairlead.errors import DataError, DiskError

# What torch and safetensors, which write without Python's files, say of a full disk.
_FULL = ("No space left on device", "PytorchStreamWriter failed writing", "unexpected pos ", "os error 28")
_REMEDIES = {
    **dict.fromkeys((errno.EACCES, errno.EROFS, errno.EPERM), "check the folder's permissions"),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "a part of the path is a file; name a folder"),
    errno.EISDIR: "name a file",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "a symbolic link points to itself; choose another path",
}


def cache_folder() -> Path:
    """The user's cache: `$FAIRLEAD_CACHE`, or `~/.cache/fairlead`."""
    return Path(os.environ.get("FAIRLEAD_CACHE") or Path("~/.cache/fairlead")).expanduser()


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns a failed write (no space, no permission) into one clear line."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        number = error.errno if isinstance(error, OSError) else None
        if number in (errno.ENOSPC, errno.EDQUOT) or any(sign in str(error) for sign in _FULL):
            raise DiskError(
                "the disk is full; nothing that was finished is lost",
                where=str(path),
                remedy="free some space and run the same command again",
            ) from error
        if number in _REMEDIES:
            reason = os.strerror(number)
            raise DiskError(f"cannot write ({reason})", where=str(path), remedy=_REMEDIES[number]) from error
        raise


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` to write to; at the end it is synced to the disk and takes the place of `path`.

    A reader, or a kill at any moment, sees the old file or the new one, and an error leaves the old one.

    Raises:
        DiskError: if `path` is anything but a regular file or nothing, because it would be replaced, or if the write
            fails.
    """
    path = Path(path)
    with disk_errors(path):
        _refuse_special(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _refuse_special(path: Path) -> None:
    """Refuses to replace a symbolic link, a folder, a device or a pipe."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        kind = "a symbolic link" if stat.S_ISLNK(mode) else "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        remedy = f"name the file that it points to: {path.resolve()}" if stat.S_ISLNK(mode) else "name a regular file"
        raise DiskError(f"is {kind} and is not replaced", where=str(path), remedy=remedy)


def write_atomic(path: Path, text: str) -> None:
    """Writes `text` so that a reader, or a kill at any moment, sees the old file or the new one."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def dump_json(value: Any, *, indent: int | None = None) -> str:
    """JSON with stable key order; NaN and infinity are refused, because absence is None."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, indent=indent, allow_nan=False)


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, dump_json(value, indent=2) + "\n")


def write_jsonl(path: Path, rows: Iterable[Any]) -> int:
    """Writes one JSON value per line, atomically; returns how many."""
    lines = [dump_json(row) for row in rows]
    write_atomic(path, "".join(line + "\n" for line in lines))
    return len(lines)


def read_text(path: Path) -> str:
    """A UTF-8 text file (a byte-order mark is dropped)."""
    path = Path(path)
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise DataError("no such file", where=str(path)) from error
    except IsADirectoryError as error:
        raise DataError("is a folder, a file is wanted", where=str(path)) from error
    except PermissionError as error:
        raise DataError("cannot be read (permission denied)", where=str(path)) from error
    except UnicodeDecodeError as error:
        data = path.read_bytes()
        line, encoding = data[: error.start].count(b"\n") + 1, _likely_encoding(data, error.start)
        raise DataError(
            f"not UTF-8 (byte {error.start})",
            where=f"{path}:{line}",
            remedy=f"convert it: iconv -f {encoding} -t UTF-8 {path.name} -o utf8-{path.name}",
        ) from error


def _likely_encoding(data: bytes, position: int) -> str:
    """The encoding that a text has in all likelihood which is not UTF-8 at a position."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16"  # as spreadsheets save "Unicode text"
    # Bytes that are control characters in Latin 1 are quotation marks and dashes in what Windows writes.
    return "WINDOWS-1252" if 0x80 <= data[position] < 0xA0 else "LATIN1"


def read_json(path: Path) -> Any:
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"not JSON: {error.msg}", where=f"{path}:{error.lineno}") from error
    except (RecursionError, ValueError) as error:
        raise DataError(f"not readable JSON: {_beyond_limits(error)}", where=str(path)) from error


def _beyond_limits(error: RecursionError | ValueError) -> str:
    """What Python's reader refuses although its grammar is JSON's."""
    return "nested too deeply" if isinstance(error, RecursionError) else "a number has too many digits"


def read_jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    """Yields (line number from 1, value) of every line that is not blank."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"not a JSON line: {error.msg} at column {error.colno}",
                where=f"{path}:{number}",
                remedy="one JSON object per line is wanted; mend or delete this line",
            ) from error
        except (RecursionError, ValueError) as error:
            raise DataError(
                f"not a readable JSON line: {_beyond_limits(error)}",
                where=f"{path}:{number}",
                remedy="mend or delete this line",
            ) from error


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_entries(folder: Path) -> tuple[list[str], list[str]]:
    """The regular files below a folder, and everything else that is no folder of such files, by relative name.

    Links are not followed. Links, devices, pipes and empty folders are the second list: they hold no bytes that a hash
    could stand for.
    """
    regular: list[str] = []
    odd: list[str] = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            regular.append(name)
        elif not stat.S_ISDIR(mode) or not any(path.iterdir()):
            odd.append(name)
    return regular, odd
