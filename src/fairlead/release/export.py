"""`fairlead release`: writes a candidate and its evidence as a folder that loads without Fairlead.

A version is never overwritten.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fairlead.config.release import ReleaseSettings
from fairlead.documents.gate import Candidate
from fairlead.documents.release import ReleaseEvidence, ReleaseResult
from fairlead.errors import ArtifactError, ConfigError, FairleadError
from fairlead.files import disk_errors, folder_entries, hash_file, read_json, write_atomic, write_json
from fairlead.models.adapters import ModelVariant, is_adapter, variants_of
from fairlead.models.generation import greedy_config
from fairlead.models.gguf.cache import is_gguf
from fairlead.models.hardware import device, resolve_dtype
from fairlead.models.loading import load_adapter, load_base, load_tokenizer, locate
from fairlead.pipeline.artifacts import Artifact, package_versions
from fairlead.pipeline.project import Project
from fairlead.pipeline.stage import resolve
from fairlead.records import content_id
from fairlead.release import hub
from fairlead.release.checksums import EVIDENCE, verify, write_checksums
from fairlead.release.evidence import Evidence, gather
from fairlead.release.gguf_base import GgufBase
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
) -> ReleaseResult:
    """Writes the release to `to`/`version`, or uploads it as a tagged revision of a hub repository.

    Args:
        to: a folder, or hf://organisation/name.
        merged: full weights with the adapter merged in, instead of the adapter.
        despite: the reason for releasing it although the evidence forbids it; it stays in the model card.
        dry_run: does everything but the last step: nothing is written to `to` and nothing is uploaded.

    Returns:
        Where it is, which files it holds, and what was overridden.

    Raises:
        ReleaseError: if the evidence forbids it and `despite` is None.
        ArtifactError: if the version exists already, or nothing has been trained.
    """
    # Cached hashes are not trusted here: a file can be altered without a change of size and time.
    project = Project(project.folder, progress=project.progress, read_every_byte=True)
    if not _VERSION.fullmatch(version):
        raise ConfigError(
            f"{version!r} is not a valid version", remedy="use letters, digits, dots and dashes, as in v0.1.0"
        )
    if despite is not None and not despite.strip():
        raise ConfigError("--despite needs a reason", remedy='say why, as in --despite "for the red team only"')
    evidence = gather(project, candidate)
    if evidence.problems and despite is None:
        raise ReleaseError(
            "; ".join(evidence.problems),
            where=f"release {version} of {candidate}",
            remedy='fix it and run fairlead gate; --despite "reason" overrides it, and the card quotes the reason',
        )
    target = _target(to, version, dry_run=dry_run)
    variant = variants_of(evidence.models)[candidate]
    if not merged and variant.adapter is not None and variant.base is not None:
        raise ConfigError(
            f"the adapter of {candidate} was trained on the full weights of SFT, which are not published",
            where=f"release {version}",
            remedy="add --merged",
        )
    with _staging_folder(None if dry_run else target) as folder:
        _fill(folder, project, version, evidence, merged=merged, despite=despite, settings=settings)
        sums = write_checksums(folder)
        verify(folder)
        where = _finish(folder, target, to, version, dry_run=dry_run, private=settings.private)
    return ReleaseResult(
        version=version,
        candidate=candidate,
        where=where,
        dry_run=dry_run,
        despite=despite if evidence.problems else None,
        problems=evidence.problems,
        warnings=_warnings(project, settings, merged=merged, evidence=evidence),
        files=sums,
    )


def _target(to: str, version: str, *, dry_run: bool) -> Path | None:
    """The folder of the version, None for the hub; refuses a version that exists. A dry run does not ask the hub."""
    if hub.is_hub(to):
        repo = hub.repo_id(to)
        if not dry_run:
            hub.refuse_existing(repo, version)
        return None
    target = Path(to).expanduser() / version
    if target.exists():
        raise ArtifactError(
            "already exists; a version is never written twice", where=str(target), remedy="choose the next version"
        )
    return target


@contextmanager
def _staging_folder(target: Path | None) -> Iterator[Path]:
    """A temporary folder on the target's disk, so that the last step is one rename."""
    if target is not None:
        with disk_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
    parent = None if target is None else target.parent
    with tempfile.TemporaryDirectory(prefix=".release-", dir=parent) as name:
        folder = Path(name) / "release"
        folder.mkdir()
        yield folder


def _finish(folder: Path, target: Path | None, to: str, version: str, *, dry_run: bool, private: bool) -> str:
    """Moves the folder to its place or uploads it, and returns its address; a dry run only returns the address."""
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
    """Writes every file of the release but the checksums."""
    trained = evidence.model.file("model")
    variant = variants_of(evidence.models)[evidence.candidate]
    adapter = is_adapter(trained) and not merged
    with disk_errors(folder):
        if merged and is_adapter(trained):
            write_merged(project, variant, folder)
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
    section = project.config.model
    base_weights = str(variant.base) if variant.base is not None else locate(section.name, project.folder)
    tokenizer = load_tokenizer(section, project.folder)
    max_new_tokens = project.config.answers.max_new_tokens
    greedy_config(base_weights, section, tokenizer, max_new_tokens).save_pretrained(str(folder))
    summary = _evidence_document(project, folder, version, evidence, despite)
    summary.write(folder / EVIDENCE)
    card = model_card(
        name=project.config.name,
        version=version,
        candidate=evidence.candidate,
        form="adapter" if adapter else "full weights",
        base=base,
        revision=revision,
        dtype=_precision(project),
        local=_is_local(project, settings),
        gguf=_gguf_base(project, summary.base),
        settings=settings,
        evidence=summary,
        record=evidence.record,
        report=evidence.report,
    )
    write_atomic(folder / "README.md", card)


def _base(project: Project, settings: ReleaseSettings) -> tuple[str, str | None]:
    """Name and revision by which others find the base model."""
    section = project.config.model
    return (settings.base_model, None) if settings.base_model is not None else (section.name, section.revision)


def _is_local(project: Project, settings: ReleaseSettings) -> bool:
    path = resolve(project.folder, project.config.model.name)
    return settings.base_model is None and (path.is_dir() or is_gguf(path))


def _gguf_base(project: Project, digest: str | None) -> GgufBase | None:
    """The GGUF file that the base model is, if it is one."""
    name = project.config.model.name
    return GgufBase(name, digest) if is_gguf(resolve(project.folder, name)) else None


def _warnings(project: Project, settings: ReleaseSettings, *, merged: bool, evidence: Evidence) -> tuple[str, ...]:
    if merged or not _is_local(project, settings) or not is_adapter(evidence.model.file("model")):
        return ()
    gguf = _gguf_base(project, None)
    if gguf is not None and gguf.in_package:
        return ()
    kind, name = "folder" if gguf is None else "file", project.config.model.name
    return (f"the adapter names its base model {name!r}, a {kind} on this machine: set release.base_model",)


def _evidence_document(
    project: Project, folder: Path, version: str, evidence: Evidence, despite: str | None
) -> ReleaseEvidence:
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
        brought_from=evidence.origins,
        versions=package_versions(),
    )


def _precision(project: Project) -> str:
    """The number type in which this machine generates answers."""
    return str(resolve_dtype(project.config.model.dtype, device())).removeprefix("torch.")


def _copy_trained(artifact: Artifact, folder: Path) -> None:
    """Copies the files of the trained model that its manifest lists; other files in its folder are left out.

    Raises:
        ArtifactError: if one of them is not a regular file, or is reached through a link.
    """
    regular, odd = folder_entries(artifact.path)
    links = [name for name in odd if name.startswith("model/") or name == "model"]
    if links:
        raise ArtifactError(
            f"{links[0]} is not a regular file", where=str(artifact.path), remedy="remove it, then: fairlead gate"
        )
    for name in artifact.manifest.files:
        if not name.startswith("model/"):
            continue
        if name not in regular:
            raise ArtifactError(f"{name} is missing or not a regular file", where=str(artifact.path))
        target = folder / name.removeprefix("model/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(artifact.path / name, target)
        target.chmod(0o644)


def write_merged(project: Project, variant: ModelVariant, folder: Path) -> None:
    """Writes the base with the variant's adapter merged in, as safetensors, and its tokenizer."""
    section = project.config.model
    model = load_base(section, project.folder, str(variant.base) if variant.base else None)
    merged = load_adapter(model, variant.adapter).merge_and_unload() if variant.adapter else model
    merged.save_pretrained(str(folder))
    for path in folder.glob("*.safetensors"):
        path.chmod(0o644)  # safetensors makes them readable by the owner only
    load_tokenizer(section, project.folder).save_pretrained(str(folder))
