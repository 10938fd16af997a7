"""Files with a fault."""

from __future__ import annotations

from pathlib import Path


def flip(path: Path, at: int = -2) -> None:
    """Turns one bit of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
