"""The inputs of a stage, and the key of its artifact that follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairlead.config.base import NamedPath
from fairlead.config.project import CONFIG_NAME, Config
from fairlead.config.values.package_file import is_model_file, is_package_file, package_file
from fairlead.errors import DataError
from fairlead.pipeline.artifacts import Artifact
from fairlead.pipeline.hash_cache import HashCache
from fairlead.pipeline.stage import Inputs, Stage, resolve
from fairlead.records import content_id


@dataclass(frozen=True)
class Plan:
    """The inputs of a stage.

    Attributes:
        key: identity of everything below.
        config: the stage's part of the config, by dotted path.
        input_hashes: hash of every file that it reads, from other stages and from the project.
        inputs: the files of other stages.
    """

    key: str
    config: dict[str, Any]
    input_hashes: dict[str, str]
    inputs: Inputs


def plan_stage(
    stage: Stage,
    config: Config,
    folder: Path,
    made: Mapping[str, Artifact],
    hash_cache: HashCache,
    recorded: Mapping[str, str],
) -> Plan:
    """The plan of a stage.

    Args:
        made: the artifacts that exist of the stages before it.
        recorded: hashes to take for files that do not exist here, by the key that names the file.

    Raises:
        DataError: if a file that the config names does not exist.
    """
    declared = stage.inputs_for(config)
    read_from = {output.stage for output in declared}
    inputs = Inputs({name: made[name] for name in made if name in read_from}, declared, stage.with_manifests)
    settings = stage.settings.of(config)
    hashes = inputs.hashes()
    for path in settings.named_paths():
        file = resolve(folder, path.text)
        if not file.exists() and path.key in recorded:
            hashes[path.key] = recorded[path.key]
        elif path.must_exist or file.exists() or is_model_file(path.text):  # other models and data sets are hub ids
            hashes[path.key] = _hash(path, file, folder, hash_cache)
    for name in stage.project_files:
        if (folder / name).is_file():
            hashes[name] = hash_cache.hash(folder / name)
    values = settings.key_values()
    return Plan(content_id(stage.name, stage.version, values, hashes, config.seed), values, hashes, inputs)


def _hash(path: NamedPath, file: Path, folder: Path, hash_cache: HashCache) -> str:
    if is_package_file(path.text):
        file = package_file(path.text)
    try:
        return hash_cache.hash(file, subfolders=path.names != "weights")
    except DataError as error:
        raise DataError(
            f"{path.key} names {file}, which does not exist",
            where=str(folder / CONFIG_NAME),
            remedy=f"put the file there, or correct {path.key}",
        ) from error
