"""`fairlead release`: a candidate with its evidence, as a folder that needs no Fairlead. Versions never overwrite."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fairlead.config.release import ReleaseSettings
from fairlead.documents.gate import Candidate
from fairlead.documents.release import ReleaseEvidence
from fairlead.errors import ArtifactError, ConfigError, FairleadError
from fairlead.files import disk_errors, folder_entries, hash_file, read_json, write_atomic, write_json
from fairlead.models.adapters import ModelVariant, is_adapter, variants_of
from fairlead.models.generation import greedy_config
from fairlead.models.hardware import device, resolve_dtype
from fairlead.models.loading import load_adapter, load_base, load_tokenizer, locate
from fairlead.pipeline.artifacts import Artifact, package_versions
from fairlead.pipeline.project import Project
from fairlead.pipeline.stage import resolve
from fairlead.records import content_id
from fairlead.release import hub
from fairlead.release.checksums import EVIDENCE, verify, write_checksums
from fairlead.release.evidence import Evidence, gather
from fairlead.release.model_card import model_card
from fairlead.report.summary import reflection

_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class ReleaseError(FairleadError):
    """The evidence does not allow the release."""


def release(
    project: Project,
    version: str,
    to: str,
    *,
    candidate: Candidate = "dpo",
    merged: bool = False,
    despite: str | None = None,
    dry_run: bool = False,
    settings: ReleaseSettings,
) -> dict[str, Any]:
    """Writes the release to `to`/`version`, or uploads it as a tagged revision of a hub repository.

    Args:
        to: a folder, or hf://organisation/name.
        merged: full weights with the adapter merged in, instead of the adapter.
        despite: why it is released although the evidence forbids it; written into the card for good.
        dry_run: everything but the last step: nothing is written to `to` and nothing is uploaded.

    Returns:
        Where it is, what it holds, and what was overridden.

    Raises:
        ReleaseError: if the evidence forbids it and no reason is given.
        ArtifactError: if the version exists already, or nothing has been trained.
    """
    # Remembered hashes are not believed here: a file may have been altered under the same size and time.
    project = Project(project.folder, progress=project.progress, read_every_byte=True)
    if not _VERSION.fullmatch(version):
        raise ConfigError(f"{version!r} is no version", remedy="use letters, digits, dots and dashes, as in v0.1.0")
    if despite is not None and not despite.strip():
        raise ConfigError("--despite wants a reason", remedy='say why, as in --despite "for the red team only"')
    evidence = gather(project, candidate)
    if evidence.problems and despite is None:
        raise ReleaseError(
            "; ".join(evidence.problems),
            where=f"release {version} of {candidate}",
            remedy='mend it and run fairlead gate; --despite "reason" overrides it and stands in the card for good',
        )
    target = _target(to, version, dry_run=dry_run)
    view = variants_of(evidence.models)[candidate]
    if not merged and view.adapter is not None and view.base is not None:
        raise ConfigError(
            f"the adapter of {candidate} lies on the full weights of SFT, which nobody else has",
            where=f"release {version}",
            remedy="add --merged",
        )
    with _workplace(None if dry_run else target) as folder:
        _fill(folder, project, version, evidence, merged=merged, despite=despite, settings=settings)
        sums = write_checksums(folder)
        verify(folder)
        where = _finish(folder, target, to, version, dry_run=dry_run, private=settings.private)
    return {
        "version": version,
        "candidate": candidate,
        "where": where,
        "dry_run": dry_run,
        "despite": despite if evidence.problems else None,
        "problems": list(evidence.problems),
        "warnings": _warnings(project, settings, merged=merged, evidence=evidence),
        "files": sums,
    }


def _target(to: str, version: str, *, dry_run: bool) -> Path | None:
    """The folder of the version; None for the hub, which a dry run does not ask. No version is written twice."""
    if hub.is_hub(to):
        repo = hub.repo_id(to)
        if not dry_run:
            hub.refuse_existing(repo, version)
        return None
    target = Path(to).expanduser() / version
    if target.exists():
        raise ArtifactError(
            "exists already; a version is never written twice", where=str(target), remedy="choose the next version"
        )
    return target


@contextmanager
def _workplace(target: Path | None) -> Iterator[Path]:
    """A folder to fill, on the target's disk so that the last step is one rename; gone afterwards."""
    if target is not None:
        with disk_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
    parent = None if target is None else target.parent
    with tempfile.TemporaryDirectory(prefix=".release-", dir=parent) as name:
        folder = Path(name) / "release"
        folder.mkdir()
        yield folder


def _finish(folder: Path, target: Path | None, to: str, version: str, *, dry_run: bool, private: bool) -> str:
    if dry_run:
        return to if target is None else str(target)
    if target is None:
        return hub.upload(folder, hub.repo_id(to), version, private=private)
    with disk_errors(target):
        folder.rename(target)
    return str(target)


def _fill(
    folder: Path,
    project: Project,
    version: str,
    evidence: Evidence,
    *,
    merged: bool,
    despite: str | None,
    settings: ReleaseSettings,
) -> None:
    trained = evidence.model.file("model")
    adapter = is_adapter(trained) and not merged
    with disk_errors(folder):
        if merged and is_adapter(trained):
            write_merged(project, variants_of(evidence.models)[evidence.candidate], folder)
        else:
            _copy_trained(evidence.model, folder)
        if evidence.gate is not None:
            for name in ("gate.json", "gate.md", "gate.xml"):
                shutil.copyfile(evidence.gate.file(name), folder / name)
    if evidence.report is not None:
        evidence.report.write(folder / "report.json")
        write_atomic(folder / "reflection.md", reflection(evidence.report))
    base, revision = _base(project, settings)
    if adapter:
        config = read_json(folder / "adapter_config.json")
        write_json(folder / "adapter_config.json", {**config, "base_model_name_or_path": base, "revision": revision})
    section, view = project.config.model, variants_of(evidence.models)[evidence.candidate]
    plain_weights = str(view.base) if view.base is not None else locate(section.name, project.folder)
    tokenizer = load_tokenizer(section, project.folder)
    most = project.config.answers.max_new_tokens
    greedy_config(plain_weights, section, tokenizer, most).save_pretrained(str(folder))
    told = _evidence(project, folder, version, evidence, despite)
    told.write(folder / EVIDENCE)
    card = model_card(
        name=project.config.name,
        version=version,
        candidate=evidence.candidate,
        form="adapter" if adapter else "full weights",
        base=base,
        revision=revision,
        dtype=_precision(project),
        local=_is_local(project, settings),
        settings=settings,
        evidence=told.content(),
        record=evidence.record,
        report=evidence.report,
    )
    write_atomic(folder / "README.md", card)


def _base(project: Project, settings: ReleaseSettings) -> tuple[str, str | None]:
    """Name and revision by which others find the base model."""
    section = project.config.model
    return (settings.base_model, None) if settings.base_model is not None else (section.name, section.revision)


def _is_local(project: Project, settings: ReleaseSettings) -> bool:
    return settings.base_model is None and resolve(project.folder, project.config.model.name).is_dir()


def _warnings(project: Project, settings: ReleaseSettings, *, merged: bool, evidence: Evidence) -> list[str]:
    if merged or not _is_local(project, settings) or not is_adapter(evidence.model.file("model")):
        return []
    name = project.config.model.name
    return [f"the adapter names its base model {name!r}, a folder that nobody else has: set release.base_model"]


def _evidence(project: Project, folder: Path, version: str, evidence: Evidence, despite: str | None) -> ReleaseEvidence:
    """What was judged and what is released, by hash."""
    record = evidence.record
    manifest = evidence.model.manifest
    return ReleaseEvidence(
        version=version,
        candidate=evidence.candidate,
        despite=despite if evidence.problems else None,
        problems=evidence.problems,
        weights={path.name: hash_file(path) for path in sorted(folder.glob("*.safetensors"))},
        trained={name: digest for name, digest in manifest.files.items() if name.startswith("model/")},
        base=manifest.inputs.get("model.name"),
        dtype=_precision(project),
        gate_record=hash_file(folder / "gate.json") if evidence.gate is not None else None,
        eval_prompts=None if record is None else record.eval_prompts,
        judge=None if record is None else record.judge,
        template=None if record is None else record.template,
        config=content_id(dict(manifest.config)) if record is None else record.config_hash,
        versions=package_versions(),
    )


def _precision(project: Project) -> str:
    """The type in which this machine computes the answers."""
    return str(resolve_dtype(project.config.model.dtype, device())).removeprefix("torch.")


def _copy_trained(artifact: Artifact, folder: Path) -> None:
    """Copies the files of the trained model that its manifest names, and nothing else that lies there.

    Raises:
        ArtifactError: if one of them is no regular file, or lies behind a link.
    """
    regular, odd = folder_entries(artifact.path)
    links = [name for name in odd if name.startswith("model/") or name == "model"]
    if links:
        raise ArtifactError(
            f"{links[0]} is no regular file", where=str(artifact.path), remedy="remove it, then: fairlead gate"
        )
    for name in artifact.manifest.files:
        if not name.startswith("model/"):
            continue
        if name not in regular:
            raise ArtifactError(f"{name} is missing or no regular file", where=str(artifact.path))
        target = folder / name.removeprefix("model/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(artifact.path / name, target)
        target.chmod(0o644)


def write_merged(project: Project, view: ModelVariant, folder: Path) -> None:
    """The base with the view's adapter merged in, as safetensors with its tokenizer."""
    section = project.config.model
    model = load_base(section, project.folder, str(view.base) if view.base else None)
    merged = load_adapter(model, view.adapter).merge_and_unload() if view.adapter else model
    merged.save_pretrained(str(folder))
    for path in folder.glob("*.safetensors"):
        path.chmod(0o644)  # safetensors writes for its owner alone
    load_tokenizer(section, project.folder).save_pretrained(str(folder))
