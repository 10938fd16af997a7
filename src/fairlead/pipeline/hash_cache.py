"""Hashes of files and folders outside the artifacts, cached so that large weights are read only once."""

from __future__ import annotations

import json
from pathlib import Path

from fairlead.errors import DataError
from fairlead.files import hash_file, write_json
from fairlead.records import content_id


class HashCache:
    """SHA-256 by (path, size, modification time).

    A change that keeps size and modification time is not noticed; where that matters, as for a release, the cache is
    not used.

    Args:
        path: the file of the cached hashes.
        use_cached: whether to use them.
    """

    def __init__(self, path: Path, *, use_cached: bool = True) -> None:
        self._path = path
        self._known = _read(path) if use_cached else {}
        self._dirty = False

    def hash(self, path: Path, *, subfolders: bool = True) -> str:
        """Identity of a file's bytes, or of all files of a folder by relative name.

        Args:
            subfolders: whether those in subfolders count.

        Raises:
            DataError: if it does not exist.
        """
        path = path.resolve()
        if path.is_dir():
            entries = path.rglob("*") if subfolders else path.iterdir()
            names = sorted(p for p in entries if p.is_file() and not p.name.startswith("."))
            return content_id([[p.relative_to(path).as_posix(), self._file(p)] for p in names])
        if not path.is_file():
            raise DataError("no such file", where=str(path))
        return self._file(path)

    def _file(self, path: Path) -> str:
        stat = path.stat()
        mark: list[object] = [stat.st_size, stat.st_mtime_ns]
        known = self._known.get(str(path))
        if known and known[:2] == mark:
            return str(known[2])
        digest = hash_file(path)
        self._known[str(path)] = [*mark, digest]
        self._dirty = True
        return digest

    def save(self) -> None:
        if self._dirty:
            write_json(self._path, self._known)
            self._dirty = False


def _read(path: Path) -> dict[str, list[object]]:
    """The cached hashes; empty if the file is absent or damaged, because everything can be hashed again."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {name: entry for name, entry in content.items() if isinstance(entry, list) and len(entry) == 3}
