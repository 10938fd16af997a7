"""`fairlead.lock`: what each stage was made from and what it measured, as YAML that people read and commit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import ValidationError

from fairlead.documents.base import Document
from fairlead.errors import ArtifactError
from fairlead.files import write_atomic
from fairlead.pipeline.artifacts import Manifest

LOCK_NAME = "fairlead.lock"
_HEAD = "# Written by fairlead: what each stage was made from and what it measured. Commit it.\n"


class LockEntry(Document):
    """The last finished run of a stage.

    Attributes:
        artifact: key of its artifact.
        figures: what it measured.
    """

    artifact: str
    hash: str
    inputs: dict[str, str]
    config: dict[str, Any]
    seed: int
    seconds: float
    figures: dict[str, Any]

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        return cls(
            artifact=manifest.key,
            hash=manifest.hash,
            inputs=manifest.inputs,
            config=manifest.config,
            seed=manifest.seed,
            seconds=manifest.seconds,
            figures=manifest.figures,
        )


class LockFile:
    """The lock file of a project; parsed once per run, because YAML is slow to read."""

    def __init__(self, path: Path, entries: dict[str, LockEntry]) -> None:
        self._path = path
        self.entries = entries

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The lock file of a project folder; empty if there is none.

        Raises:
            ArtifactError: if it exists and cannot be read.
        """
        path = folder / LOCK_NAME
        remedy = f"delete it, then: fairlead run {folder}"
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls(path, {})
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise ArtifactError("cannot be read", where=str(path), remedy=remedy) from error
        if content is None:
            return cls(path, {})
        try:
            return cls(path, {str(name): LockEntry.model_validate(entry) for name, entry in content.items()})
        except (AttributeError, ValidationError) as error:
            raise ArtifactError("is not a lock file of this version", where=str(path), remedy=remedy) from error

    def record(self, stage: str, manifest: Manifest, *, order: Sequence[str]) -> None:
        """Records a finished stage, and writes the file if that changes it.

        Args:
            order: the stages of the project in the order they run.
        """
        entry = LockEntry.of(manifest)
        if self.entries.get(stage) == entry:
            return
        self.entries[stage] = entry
        content = {name: self.entries[name].model_dump(mode="json") for name in order if name in self.entries}
        write_atomic(self._path, _HEAD + yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
