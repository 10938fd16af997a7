"""The files of arms that were made elsewhere: folders, or snapshots of a hub's repositories."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fairlead.config.stage_settings import ArmsSettings
from fairlead.config.training import ImportedModel
from fairlead.config.values.arms import ModelArm, ReleaseArm
from fairlead.errors import ModelError
from fairlead.models.imported.source import ModelFiles, find_files, local_files


def preflight(settings: ArmsSettings, folder: Path) -> None:
    """Refuses what can be seen to be no model without asking the hub.

    Raises:
        ModelError: if a folder is absent or holds no model, or what is named as an adapter is none.
    """
    for arm, key in _named(settings):
        files = local_files(_source(arm), folder, key)
        if files is not None:
            _demand_adapter(arm, files, key)


def files_of(arm: ModelArm | ReleaseArm, settings: ArmsSettings, folder: Path) -> ModelFiles:
    """The released files of an arm, or its adapter; downloaded first if it is a hub id.

    Raises:
        ModelError: if there is no such model, or it does not fit.
    """
    key = next(key for other, key in _named(settings) if other is arm)
    files = find_files(_source(arm), folder, key)
    _demand_adapter(arm, files, key)
    return files


def _named(settings: ArmsSettings) -> Iterator[tuple[ModelArm | ReleaseArm, str]]:
    """The arms that name such files, with the key that does."""
    for number, arm in enumerate(settings.arms):
        if isinstance(arm, ReleaseArm):
            yield arm, f"eval.arms.{number}.release"
        elif isinstance(arm, ModelArm) and arm.adapter is not None:
            yield arm, f"eval.arms.{number}.adapter"


def _source(arm: ModelArm | ReleaseArm) -> ImportedModel:
    name = arm.release if isinstance(arm, ReleaseArm) else arm.adapter
    return ImportedModel.model_validate({"from": name})


def _demand_adapter(arm: ModelArm | ReleaseArm, files: ModelFiles, key: str) -> None:
    if isinstance(arm, ModelArm) and not files.is_adapter:
        raise ModelError("is no PEFT adapter", where=f"{key}: {files.name}", remedy="give it as the arm's model")
