"""What a GGUF file says of itself, and whether transformers reads all of it.

Transformers leaves out in silence what it does not know: scaled rotary embeddings, biases, a way of splitting texts.
The model would then be another than the file's, so such a file is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from fairlead.errors import ModelError, some
from fairlead.models.gguf.parts import demand_whole
from fairlead.models.gguf.splits import known_splits

_MAGIC = b"GGUF"
_AGAIN = "copy or download the file again"
_SAFETENSORS = "use the safetensors of the same model"
_ARCHITECTURE = "general.architecture"
_TENSOR_TYPE = "ggml type"  # what transformers' reader says of a type that only the package gguf reads
# What readers raise of a file whose bytes are not what its format promises.
DAMAGED = (
    ValueError,
    LookupError,
    TypeError,
    OverflowError,
    MemoryError,
    AttributeError,
    struct.error,
    EOFError,
    OSError,
)
# As llama.cpp's converter calls architectures that transformers calls otherwise.
_OTHER_NAMES = {"qwen2moe": "qwen2_moe", "qwen3moe": "qwen3_moe", "gpt-oss": "gpt_oss", "minimax-m2": "minimax_m2"}
_NO_ARCHITECTURES = ("general", "tokenizer")
_ENCODERS = ("t5", "t5encoder", "umt5")


@dataclass(frozen=True)
class Header:
    """The metadata of a file.

    Attributes:
        values: the metadata by key; the vocabulary and the merges are given as their number.
        elements: numbers that each tensor holds, by its name.
    """

    values: dict[str, Any]
    elements: dict[str, int]

    @property
    def architecture(self) -> str:
        return str(self.values[_ARCHITECTURE])

    @property
    def pre_tokenizer(self) -> str | None:
        """How texts are split before they are tokenised; None if no such name is needed."""
        if self.values.get("tokenizer.ggml.model") != "gpt2":
            return None
        return str(self.values.get("tokenizer.ggml.pre", "unnamed"))

    @property
    def context_length(self) -> int | None:
        length = self.values.get(f"{self.architecture}.context_length")
        return length if isinstance(length, int) else None


def read_header(path: Path) -> Header:
    """The header of a file that can be converted.

    Raises:
        ModelError: if it is damaged, or holds what transformers does not read.
    """
    _demand_magic(path)
    with damage(path):
        header = _read(path)
    _demand_architecture(header, path)
    _demand_rope(header, path)
    _demand_splits(header, path)
    return header


@contextmanager
def damage(path: Path) -> Iterator[None]:
    """Turns whatever is raised about a file's bytes into one line."""
    try:
        yield
    except DAMAGED as error:
        lines = str(error).replace(f"{path} ", "").strip().splitlines()
        reason = lines[0][:200] if lines else type(error).__name__
        raise ModelError(f"cannot be read as GGUF: {reason}", where=str(path), remedy=_AGAIN) from error


def _demand_magic(path: Path) -> None:
    with damage(path), path.open("rb") as file:
        start = file.read(len(_MAGIC))
    if start != _MAGIC:
        reason = "is empty" if not start else "is no GGUF file: it does not begin with GGUF"
        raise ModelError(reason, where=str(path), remedy=_AGAIN)


def _read(path: Path) -> Header:
    try:
        from transformers.integrations.gguf import GgufHeader, read_gguf_metadata
    except ImportError as error:
        raise ModelError(
            "this version of transformers cannot read GGUF files", where=str(path), remedy="pip install -U transformers"
        ) from error
    try:
        values, names = read_gguf_metadata(str(path))
    except ValueError as error:
        if _ARCHITECTURE in str(error):  # only the first part of a split model names it
            demand_whole(path, _values_by_gguf(path))
        raise
    demand_whole(path, values)
    try:
        table = GgufHeader.from_file(str(path))
    except ValueError as error:
        if _TENSOR_TYPE not in str(error):
            raise
        return Header(values, _elements_by_gguf(path))
    end = table.data_start + max((tensor.offset + tensor.nbytes for tensor in table.tensors), default=0)
    if path.stat().st_size < end:
        raise ValueError(f"it has {path.stat().st_size:,} bytes of {end:,}")
    if not names:
        raise ValueError("it holds no tensors")
    return Header(values, {tensor.name: prod(tensor.shape) for tensor in table.tensors})


def _values_by_gguf(path: Path) -> dict[str, Any]:
    """The metadata of a file without an architecture, which transformers does not read."""
    from gguf import GGUFReader

    return {name: field.contents() for name, field in GGUFReader(str(path)).fields.items()}


def _elements_by_gguf(path: Path) -> dict[str, int]:
    """The same from the package gguf, which knows all quantisations but is slow."""
    from gguf import GGUFReader

    return {tensor.name: int(tensor.n_elements) for tensor in GGUFReader(str(path)).tensors}


def _demand_architecture(header: Header, path: Path) -> None:
    from transformers.integrations import GGUF_CONFIG_MAPPING
    from transformers.integrations.gguf import GGUF_CONFIG_ARCHS

    read = {*GGUF_CONFIG_MAPPING, *GGUF_CONFIG_ARCHS} - {*_NO_ARCHITECTURES, *_ENCODERS}
    if _OTHER_NAMES.get(header.architecture, header.architecture) not in read:
        raise ModelError(
            f"transformers does not read the architecture {header.architecture!r} from GGUF",
            where=str(path),
            remedy=f"{_SAFETENSORS}; it reads {some(sorted(read), 40, 400)}",
        )


def _demand_rope(header: Header, path: Path) -> None:
    """Refuses rotary embeddings that are scaled; gpt-oss alone has its scaling read."""
    kind = header.values.get(f"{header.architecture}.rope.scaling.type", "none")
    factors = [name for name in header.elements if name.startswith(("rope_freqs", "rope_factors"))]
    if (kind == "none" or header.architecture == "gpt-oss") and not factors:
        return
    what = f"rope.scaling.type {kind}" if kind != "none" else factors[0]
    raise ModelError(
        f"its rotary embeddings are scaled ({what}), which transformers does not read from GGUF",
        where=str(path),
        remedy=_SAFETENSORS,
    )


def _demand_splits(header: Header, path: Path) -> None:
    name = header.pre_tokenizer
    if name is not None and name not in known_splits():
        raise ModelError(
            f"its tokenizer splits texts by a rule that is not known here ({name})",
            where=str(path),
            remedy=_SAFETENSORS,
        )
