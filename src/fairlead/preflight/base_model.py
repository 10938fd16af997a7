"""The files of the base model: whether they are there, and what they say of its size and context."""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

from fairlead.config.values.package_file import is_model_file
from fairlead.errors import ConfigError, DataError, DiskError, ModelError
from fairlead.files import read_json
from fairlead.pipeline.stage import looks_like_path, resolve
from fairlead.preflight.problem import Problem
from fairlead.preflight.scope import Scope

_HUB_PATIENCE_S = 10.0
_MOST_HEADER_BYTES = 100_000_000


@dataclass(frozen=True)
class ModelFiles:
    """What the files of a model say.

    Attributes:
        folder: where they are; None while the model is still on the hub.
        parameters, weight_bytes: None where that is not known.
        context: tokens that it can attend to.
    """

    folder: Path | None
    parameters: int | None = None
    weight_bytes: int | None = None
    context: int | None = None


def find_models(scope: Scope) -> tuple[ModelFiles | None, list[Problem]]:
    """The files of the base model, and what is wrong with those of all local models that are still to be loaded."""
    problems: list[Problem] = []
    base: ModelFiles | None = None
    for named in scope.named_paths():
        is_base = named.key == "model.name"
        made_elsewhere = named.key.startswith(("sft.", "dpo."))  # its stage says whether it fits the base
        if named.names != "model" or made_elsewhere or (is_base and not scope.loads_base):
            continue
        revision = scope.config.model.revision if is_base else None
        try:
            files = find_model(named.text, scope.folder, revision, offline=scope.offline)
        except (ConfigError, ModelError, DiskError) as error:
            problems.append(Problem.of(named.key, error))
            continue
        base = files if is_base else base
    return base, problems


def _folder_of(name: str, path: Path, revision: str | None) -> Path | None:
    """The folder of a model: one on this machine, or the hub's copy in its cache; None where there is neither."""
    if path.is_dir():
        return path
    try:
        cached = Path(snapshot_download(name, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, ValueError, OSError):
        return None
    return cached if any(cached.glob("*.safetensors")) else None


def find_model(name: str, folder: Path, revision: str | None = None, *, offline: bool = False) -> ModelFiles:
    """The files of a model, as far as its weights need not be loaded.

    Args:
        folder: the project folder, against which a path is resolved.
        offline: ask no hub.

    Raises:
        ConfigError, ModelError: if there is no such model, or its files are damaged.
        DiskError: if a GGUF file cannot be converted for want of space.
    """
    if is_model_file(name):
        from fairlead.models.loading import locate  # imports torch

        # This converts a GGUF file, so that all of it is checked.
        return _of_folder(Path(locate(name, folder)))
    path = resolve(folder, name)
    here = _folder_of(name, path, revision)
    if here is not None:
        return _of_folder(here)
    if looks_like_path(name) or path.is_file():
        raise ModelError(f"no such model folder: {path}", remedy="correct the path, or give a hub id")
    return ModelFiles(None) if offline else _of_hub(name, revision)


def _of_hub(name: str, revision: str | None) -> ModelFiles:
    """What the hub says of a model that is not on this machine."""
    if os.environ.get("HF_HUB_OFFLINE", "") in ("1", "true", "True"):
        raise ModelError(
            f"{name} is no folder here and not in the hub's cache, and HF_HUB_OFFLINE is set",
            remedy="give the folder of a model, or unset HF_HUB_OFFLINE so that it can be downloaded",
        )
    try:
        info = HfApi().model_info(name, revision=revision, timeout=_HUB_PATIENCE_S, files_metadata=True)
    except GatedRepoError as error:
        remedy = "accept its conditions on its page, and set HF_TOKEN"
        raise ModelError(f"the hub gives {name} only to those who accept its conditions", remedy=remedy) from error
    except RepositoryNotFoundError as error:
        remedy = "correct the id, or give a folder; a private model needs HF_TOKEN"
        raise ModelError(f"{name} is no folder here, and the hub has no such model", remedy=remedy) from error
    except (HfHubHTTPError, httpx2.HTTPError, OSError, ValueError) as error:
        remedy = "connect to the hub, or give the folder of a model; --offline checks without the hub"
        raise ModelError(f"{name} is no folder here, and the hub cannot be reached", remedy=remedy) from error
    sizes = [item.size or 0 for item in info.siblings or [] if item.rfilename.endswith(".safetensors")]
    if not sizes:
        raise ModelError(f"the hub's {name} has no *.safetensors", remedy="take a model that has them")
    parameters = info.safetensors.total if info.safetensors is not None else None
    return ModelFiles(None, parameters, sum(sizes) or None)


def _of_folder(folder: Path) -> ModelFiles:
    """The files of a complete folder.

    Raises:
        ModelError: if the config, the weights or the tokenizer are missing or damaged.
    """
    remedy = "give a folder that save_pretrained wrote, with the weights as *.safetensors, or a hub id"
    if not (folder / "config.json").is_file():
        raise ModelError("is no model folder: it has no config.json", where=str(folder), remedy=remedy)
    try:
        config = read_json(folder / "config.json")
    except DataError as error:
        raise ModelError(f"its config.json {error.what}", where=str(folder), remedy=remedy) from error
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ModelError("has no *.safetensors", where=str(folder), remedy=remedy)
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json")):
        raise ModelError("has no tokenizer", where=str(folder), remedy="save the tokenizer into the same folder")
    parameters = sum(_parameters(file) for file in weights)
    return ModelFiles(folder, parameters, sum(file.stat().st_size for file in weights), _context(config))


def _context(config: Any) -> int | None:
    inner = config.get("text_config", config) if isinstance(config, Mapping) else {}
    context = inner.get("max_position_embeddings") if isinstance(inner, Mapping) else None
    return context if isinstance(context, int) else None


def _parameters(file: Path) -> int:
    """The number of weights, which the file's header lists by name, type and shape."""
    try:
        with file.open("rb") as stream:
            (size,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(size, _MOST_HEADER_BYTES)))
        return sum(math.prod(item["shape"]) for name, item in header.items() if name != "__metadata__")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, struct.error) as error:
        remedy = "copy or download the model again"
        raise ModelError("its weights are damaged", where=str(file), remedy=remedy) from error


def unusable_quantization(scope: Scope) -> Iterator[Problem]:
    """4-bit weights need a CUDA device."""
    if scope.loads_base and scope.config.model.quantization is not None:
        from fairlead.models.hardware import device

        if device().type != "cuda":
            what = "4bit needs a CUDA device, this machine has none"
            yield Problem("model.quantization", what, "set it to null; fairlead doctor shows what this machine can do")
