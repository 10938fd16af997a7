"""Text that every database and every endpoint accepts."""

from __future__ import annotations


def storable(text: str) -> str:
    """The text with U+FFFD in place of lone surrogates and NUL, which databases and JSON over HTTP refuse."""
    joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return joined.replace("\0", "�")
