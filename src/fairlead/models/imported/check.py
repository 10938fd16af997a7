"""Whether the model that `sft.from` or `dpo.from` names can be used, as far as its config files tell."""

from __future__ import annotations

from pathlib import Path

from fairlead.config.stage_settings import ImportedDpoSettings, ImportedModelSettings, ImportedSftSettings
from fairlead.config.training import ImportedModel, SftSection
from fairlead.errors import ModelError
from fairlead.models.imported.adapter_config import BaseModel, check_adapter_config
from fairlead.models.imported.source import ModelFiles, local_files

Settings = ImportedSftSettings | ImportedDpoSettings


def preflight(settings: Settings, folder: Path) -> None:
    """Refuses at once what a folder's config files show; of a hub id nothing is asked yet.

    Raises:
        ModelError: with what is wrong and what would be right.
    """
    files = local_files(settings.source, folder, key_of(settings))
    if files is None or not files.is_adapter:
        return
    sft = settings.sft
    on_imported = local_files(sft, folder, "sft.from") if isinstance(sft, ImportedModel) else None
    if isinstance(sft, ImportedModel) and on_imported is None:
        return  # whether it is an adapter or full weights is not known before it is downloaded
    is_full = on_imported is not None and not on_imported.is_adapter
    base = base_under(settings, files, sft_is_full=is_full or (isinstance(sft, SftSection) and sft.method == "full"))
    check_adapter_config(files, base, folder, known_as=settings.source.base)


def key_of(settings: ImportedModelSettings) -> str:
    """The config's key that names the model."""
    return f"{settings.paths()['source']}.from"


def base_under(settings: Settings, files: ModelFiles, *, sft_is_full: bool) -> BaseModel:
    """The model that an adapter lies on: the base, or an SFT model that has full weights of its own.

    Raises:
        ModelError: if those are trained here, so that no adapter made elsewhere can be of them.
    """
    if not sft_is_full:
        return BaseModel("model.name", settings.model.name)
    if not isinstance(settings.sft, ImportedModel):
        raise ModelError(
            "an adapter made elsewhere cannot lie on full weights that are trained here (sft.method: full)",
            where=files.where,
            remedy="bring the SFT model as sft: {from: …}, or give full weights as dpo.from",
        )
    return BaseModel("sft.from", settings.sft.source)
