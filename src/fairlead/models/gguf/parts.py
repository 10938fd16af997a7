"""Models that llama.cpp has split into several GGUF files, of which each holds some of the tensors."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairlead.errors import ModelError

_PART = re.compile(r"(?P<whole>.+)-\d{5}-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)


def demand_whole(path: Path, values: Mapping[str, Any]) -> None:
    """Refuses one part of several, whichever it is.

    Args:
        values: the metadata of the file.

    Raises:
        ModelError: with the command that merges the parts.
    """
    count = values.get("split.count", 1)
    if not isinstance(count, int) or count <= 1:
        return
    number = values.get("split.no")
    which = f"part {number + 1} of {count}" if isinstance(number, int) else f"one of {count} parts"
    first, whole = _names(path)
    raise ModelError(
        f"is {which} of a split model",
        where=str(path),
        remedy=f"merge them, and name the whole file: llama-gguf-split --merge {first} {whole}",
    )


def _names(path: Path) -> tuple[str, str]:
    """The first part and the whole file as a shell takes them, as far as the part's name tells."""
    match = _PART.fullmatch(path.name)
    if match is None:
        return "FIRST_PART", "WHOLE_FILE"
    names = f"{match['whole']}-00001-of-{match['count']}.gguf", f"{match['whole']}.gguf"
    first, whole = (shlex.quote(str(path.with_name(name))) for name in names)
    return first, whole
