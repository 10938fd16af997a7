"""The converted models in the user's cache: a folder by the content of the GGUF file and the versions that read it."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import tempfile
from importlib import metadata
from pathlib import Path

from filelock import FileLock

from fairlead.errors import ModelError
from fairlead.files import cache_folder, disk_errors
from fairlead.pipeline.hash_cache import HashCache
from fairlead.records import content_id

logger = logging.getLogger(__name__)

_FORM = 1  # raised when the conversion gives other files than before
_SUFFIX = ".gguf"


def is_gguf(path: Path) -> bool:
    return path.suffix.lower() == _SUFFIX and not path.is_dir()


def preflight(path: Path) -> None:
    """Refuses a file that cannot be converted, as far as its header tells; one that has been converted is good.

    Raises:
        ModelError: with what is wrong and what would be right.
    """
    _demand_package()
    if not _folder_of(path).is_dir():
        from fairlead.models.gguf.header import read_header  # imports torch

        read_header(path)


def converted(path: Path) -> Path:
    """The folder with the converted model, tokenizer and chat template; made if it is not there yet.

    Raises:
        ModelError: if the file cannot be converted.
        DiskError: if the cache cannot be written.
    """
    _demand_package()
    target = _folder_of(path)
    if target.is_dir():
        return target
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f"{target.name}.lock")):
            if not target.is_dir():  # another process may have made it meanwhile
                _convert(path, target)
    return target


def _convert(path: Path, target: Path) -> None:
    """Writes into a temporary folder beside `target`, which then takes its name: it is whole or absent."""
    from fairlead.models.gguf.convert import convert  # imports torch

    for leftover in target.parent.glob(f".{target.name}.*"):  # of a conversion that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    logger.warning("%s is converted into safetensors, once: %s", path.name, target)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        convert(path, temporary)
        for file in temporary.iterdir():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        temporary.chmod(0o755)
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _folder_of(path: Path) -> Path:
    root = cache_folder() / "gguf"
    hashes = HashCache(root / "hashes.json")
    digest = hashes.hash(path)
    with disk_errors(root):
        hashes.save()
    versions = {name: metadata.version(name) for name in ("transformers", "gguf")}
    return root / f"{digest[:16]}-{content_id(_FORM, versions)[:8]}"


def _demand_package() -> None:
    if importlib.util.find_spec("gguf") is None:
        raise ModelError("reading a GGUF file needs the package gguf", where="model.name", remedy="pip install gguf")
