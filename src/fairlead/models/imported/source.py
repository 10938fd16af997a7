"""The files of a model made elsewhere: a folder, or a snapshot of a hub's repository."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairlead.config.loading.base_model import ADAPTER_CONFIG
from fairlead.config.training import ImportedModel
from fairlead.errors import DataError, ModelError
from fairlead.files import read_json
from fairlead.pipeline.stage import looks_like_path, resolve

ADAPTER_WEIGHTS = "adapter_model.safetensors"
MODEL_CONFIG = "config.json"
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt")
_DOWNLOADED = (
    *(ADAPTER_CONFIG, ADAPTER_WEIGHTS, MODEL_CONFIG, "generation_config.json", "model*.safetensors", _INDEX, "*.py"),
    *("tokenizer*", "vocab*", "merges.txt", "added_tokens.json", "special_tokens_map.json", "chat_template*"),
)


@dataclass(frozen=True)
class ModelFiles:
    """A model made elsewhere, on this machine.

    Attributes:
        key: the config's key that names it.
        name: the folder or hub id, as it stands there.
        folder: where its files are.
        commit: of the hub's repository; None for a folder.
        config: the content of the adapter's config, or of the model's.
        weights: the files that hold its tensors, by name.
    """

    key: str
    name: str
    folder: Path
    commit: str | None
    is_adapter: bool
    config: dict[str, Any]
    weights: tuple[str, ...]

    @property
    def where(self) -> str:
        return f"{self.key}: {self.name}"

    @property
    def has_tokenizer(self) -> bool:
        return any((self.folder / name).is_file() for name in _TOKENIZER_FILES)


def local_files(section: ImportedModel, folder: Path, key: str) -> ModelFiles | None:
    """The model's files, if it is a folder; None if it can only be a hub id.

    Args:
        folder: the project folder, against which the source is resolved.
        key: the config's key that names the model, for messages.

    Raises:
        ModelError: if it is a folder that holds no model, or is absent and no hub id either.
    """
    path = resolve(folder, section.source)
    if path.is_dir():
        if section.revision is not None:
            raise ModelError(
                f"{section.source} is a folder, which has no revision {section.revision}",
                where=key.replace("from", "revision"),
                remedy="leave the revision out; it belongs to a hub id",
            )
        return _model_files(path, section.source, key, None)
    is_hub_id = "/" in section.source and not looks_like_path(section.source)
    if not is_hub_id or path.exists():
        raise ModelError(
            "no such model folder",
            where=f"{key}: {path}",
            remedy=f"correct {key}: a folder, relative to the project, or a hub id such as organisation/name",
        )
    return None


def find_files(section: ImportedModel, folder: Path, key: str) -> ModelFiles:
    """The model's files, downloaded first if it is a hub id.

    Raises:
        ModelError: if there is no such model, or it holds no weights that can be loaded.
    """
    return local_files(section, folder, key) or _downloaded(section, key)


def _downloaded(section: ImportedModel, key: str) -> ModelFiles:
    from huggingface_hub import snapshot_download

    with _hub_errors(section, key):
        path = Path(snapshot_download(section.source, revision=section.revision, allow_patterns=list(_DOWNLOADED)))
    return _model_files(path, section.source, key, path.name)


@contextmanager
def _hub_errors(section: ImportedModel, key: str) -> Iterator[None]:
    """Turns whatever the hub's client raises into one line."""
    try:
        yield
    except (OSError, ValueError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        at = "" if section.revision is None else f" at revision {section.revision}"
        reason = lines[0][:300] if lines else type(error).__name__
        raise ModelError(
            f"no folder of this name, and the hub gives no model{at}: {reason}",
            where=f"{key}: {section.source}",
            remedy="check the path or id, the revision, the network and HF_TOKEN",
        ) from error


def _model_files(path: Path, name: str, key: str, commit: str | None) -> ModelFiles:
    is_adapter = (path / ADAPTER_CONFIG).is_file()
    if not is_adapter and not (path / MODEL_CONFIG).is_file():
        raise _no_model(path, name, key)
    config = _read_object(path / (ADAPTER_CONFIG if is_adapter else MODEL_CONFIG), f"{key}: {name}")
    weights = (ADAPTER_WEIGHTS,) if is_adapter else _weight_files(path, f"{key}: {name}")
    absent = [file for file in weights if not (path / file).is_file()]
    if absent:
        pickled = (path / "adapter_model.bin").is_file() or (path / "pytorch_model.bin").is_file()
        raise ModelError(
            f"has no {absent[0]}" + (", only a pickle (.bin), which could run code when it is loaded" * pickled),
            where=f"{key}: {name}",
            remedy="save it with save_pretrained, which writes safetensors",
        )
    return ModelFiles(key, name, path, commit, is_adapter, config, weights)


def _weight_files(path: Path, where: str) -> tuple[str, ...]:
    """The files of full weights: those that the index names, else the one file."""
    if not (path / _INDEX).is_file():
        return (_WEIGHTS,)
    shards = _read_object(path / _INDEX, where).get("weight_map")
    names = set(shards.values()) if isinstance(shards, dict) else set()
    if not names or not all(isinstance(shard, str) and "/" not in shard for shard in names):
        raise ModelError(f"its {_INDEX} names no files", where=where, remedy="copy the model again")
    return (*sorted(names), _INDEX)


def _no_model(path: Path, name: str, key: str) -> ModelError:
    """The error about a folder without a model, with the models in its subfolders."""
    inside = sorted(found.parent.name for found in path.glob(f"*/{ADAPTER_CONFIG}"))
    inside = inside or sorted(found.parent.name for found in path.glob(f"*/{MODEL_CONFIG}"))
    if not inside:
        return ModelError(
            f"is no model folder: it has neither {ADAPTER_CONFIG} nor {MODEL_CONFIG}",
            where=f"{key}: {name}",
            remedy="give a folder written by save_pretrained, or a hub id",
        )
    several = f"holds {len(inside)} models, {', '.join(inside[:4])}" if len(inside) > 1 else f"holds {inside[0]}"
    return ModelError(
        f"is no model folder itself, but {several}",
        where=f"{key}: {name}",
        remedy=f"name {'one' if len(inside) > 1 else 'it'}, as in {key}: {name}/{inside[-1]}",
    )


def _read_object(path: Path, where: str) -> dict[str, Any]:
    try:
        content = read_json(path)
    except DataError as error:
        raise ModelError(f"its {path.name} is {error.what}", where=where, remedy="copy the model again") from error
    if not isinstance(content, dict):
        raise ModelError(f"its {path.name} holds no JSON object", where=where, remedy="copy the model again")
    return content
