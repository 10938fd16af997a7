"""The stages `sft` and `dpo` of a model that was made elsewhere: it is held against the base and taken over.

What is written looks as if it had been trained here: an adapter that names the project's base, or full weights, with
the project's tokenizer beside it. `origin.json` says where it comes from.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from peft import LoraConfig

from fairlead.config.loading.base_model import ADAPTER_CONFIG
from fairlead.config.model import ModelSection
from fairlead.config.stage_settings import ImportedDpoSettings, ImportedSftSettings
from fairlead.documents.training import Origin
from fairlead.files import disk_errors, hash_file
from fairlead.models.adapters import dpo_start, variants_of
from fairlead.models.imported.adapter_config import check_adapter_config
from fairlead.models.imported.adapter_tensors import check_adapter_tensors
from fairlead.models.imported.check import base_under, key_of
from fairlead.models.imported.source import MODEL_CONFIG, ModelFiles, find_files
from fairlead.models.imported.tokenizer import check_tokenizer
from fairlead.models.imported.weights import check_weights
from fairlead.models.loading import load_tokenizer
from fairlead.pipeline import outputs as files
from fairlead.pipeline.stage import Context, Metrics

ImportContext = Context[ImportedSftSettings] | Context[ImportedDpoSettings]


def run(context: ImportContext) -> Metrics:
    """Writes model/ (an adapter, or full weights) and origin.json."""
    section = context.settings.model
    model = find_files(context.settings.source, context.folder, key_of(context.settings))
    tokenizer = load_tokenizer(section, context.folder)
    out = context.out / "model"
    with disk_errors(out):
        shutil.rmtree(out, ignore_errors=True)  # of a run that was killed
        out.mkdir(parents=True)
    notes = check_tokenizer(model, tokenizer, section, context.folder)
    if model.is_adapter:
        notes += _take_adapter(context, model, section, out)
    else:
        check_weights(model, section, context.folder)
        _copy(model, _taken(model, section), out)
    tokenizer.save_pretrained(str(out))
    for note in notes:
        context.progress.line(f"      {note}")
    origin = Origin(
        source=model.name,
        commit=model.commit,
        form="adapter" if model.is_adapter else "full weights",
        base=model.config.get("base_model_name_or_path") if model.is_adapter else None,
        files={name: hash_file(model.folder / name) for name in _taken(model, section)},
        notes=tuple(notes),
    )
    origin.write(context.out / files.SFT_ORIGIN.name)
    return {"brought_from": origin.address, "form": origin.form, "notes": notes, **_shape(model)}


def _take_adapter(context: ImportContext, model: ModelFiles, section: ModelSection, out: Path) -> list[str]:
    """Checks an adapter against the model that it lies on, and writes it as one of the project's base."""
    start = dpo_start(variants_of(files.trained_models(context.inputs)))
    base = base_under(context.settings, model, sft_is_full=start.base is not None)
    notes = check_adapter_config(model, base, context.folder, known_as=context.settings.source.base)
    config = check_adapter_tensors(model, section, context.folder, start.base)
    _copy(model, _taken(model, section), out)
    write_adapter_config(config, section.name, out)
    return notes


def write_adapter_config(config: LoraConfig, base: str, out: Path) -> None:
    """Writes an adapter's config so that the same adapter gives the same bytes wherever it was made."""
    config.base_model_name_or_path, config.revision = base, None
    config.inference_mode = True
    if isinstance(config.target_modules, set):
        config.target_modules = sorted(config.target_modules)
    config.save_pretrained(str(out))


def _taken(model: ModelFiles, section: ModelSection) -> tuple[str, ...]:
    """The files of the source that are taken over; the tokenizer is the project's."""
    if model.is_adapter:
        return (ADAPTER_CONFIG, *model.weights)
    code = sorted(path.name for path in model.folder.glob("*.py")) if section.trust_remote_code else []
    others = [name for name in (MODEL_CONFIG, "generation_config.json") if (model.folder / name).is_file()]
    return (*others, *model.weights, *code)


def _copy(model: ModelFiles, names: tuple[str, ...], out: Path) -> None:
    """Copies files; those of the hub's cache, which are never written again, are linked where the disk allows it."""
    with disk_errors(out):
        for name in names:
            source, target = (model.folder / name).resolve(), out / name
            if model.commit is None or not _linked(source, target):
                shutil.copyfile(source, target)


def _linked(source: Path, target: Path) -> bool:
    """Whether a file could be linked instead of copied: both names are then the same bytes on the disk."""
    try:
        os.link(source, target)
    except OSError:
        return False
    return True


def _shape(model: ModelFiles) -> Metrics:
    """What people want to know of an adapter."""
    if not model.is_adapter:
        return {}
    config = model.config
    targets = config.get("target_modules")
    targets = sorted(targets) if isinstance(targets, list) else targets
    return {"rank": config.get("r"), "alpha": config.get("lora_alpha"), "targets": targets}
