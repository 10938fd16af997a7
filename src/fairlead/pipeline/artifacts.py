"""Content-addressed artifacts: folders of files with a manifest, either complete or absent.

    artifacts/<stage>/<key>/            a finished artifact; `manifest.json` is in it
    artifacts/<stage>/<key>.partial/    one in progress; after a kill the next run continues in it

`key` identifies the inputs: the stage, its version, its part of the config, the hashes of the files that it reads.
`hash` identifies the outputs. Later stages depend on the hashes of the files that they read, so a stage that runs
again and writes the same bytes makes no later stage stale.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import Field

from fairlead.documents.base import Document
from fairlead.errors import ArtifactError, DataError
from fairlead.files import disk_errors, folder_entries, hash_file
from fairlead.records import content_id

MANIFEST = "manifest.json"
WEIGHTS = (".safetensors",)
_PACKAGES = (
    *("fairlead", "torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers", "safetensors"),
    *("huggingface_hub", "numpy", "scipy", "statsmodels"),
)


class Manifest(Document):
    """What an artifact is made of and from.

    Attributes:
        key: identity of the inputs.
        hash: identity of the outputs: of those files in `files` that the stage declares as outputs.
        inputs: hash of every input, by name.
        config: the part of the config that is in the stage's key, by dotted path.
        files: SHA-256 of every file, by path inside the artifact.
        figures: what the stage measured, for `fairlead status` and the report.
        seconds: wall time of the run that finished it.
    """

    stage: str
    key: str
    hash: str
    inputs: dict[str, str]
    config: dict[str, Any]
    files: dict[str, str]
    figures: dict[str, Any]
    seconds: float
    seed: int
    created: str
    versions: dict[str, str] = Field(default_factory=dict)

    @property
    def content_hash(self) -> str:
        """Identity of the whole manifest, including times."""
        return content_id(self.model_dump(mode="json"))


@dataclass(frozen=True)
class Artifact:
    """A finished artifact on disk."""

    path: Path
    manifest: Manifest

    @property
    def hash(self) -> str:
        return self.manifest.hash

    def file(self, name: str) -> Path:
        """Path of one of its files or folders.

        Raises:
            ArtifactError: if it does not exist.
        """
        path = self.path / name
        if not path.exists():
            raise ArtifactError(
                f"has no {name}",
                where=str(self.path),
                remedy=self._again,
            )
        return path

    def hash_of(self, name: str) -> str:
        """Identity of one of its files, or of all files of a folder in it."""
        return content_id({n: digest for n, digest in self.manifest.files.items() if _within(n, name)})

    def verify(self, outputs: Sequence[str] | None = None, *, may_lack_weights: bool = False) -> None:
        """Compares every file with the manifest.

        Args:
            outputs: the stage's declared outputs; if given, the manifest's hash is verified too.
            may_lack_weights: accept that files of weights are not here, as in a repository that holds the evidence
                alone.

        Raises:
            ArtifactError: naming the first file that is missing, changed or not in the manifest.
        """
        if outputs is not None and self.hash != _identity(self.manifest.stage, self.manifest.files, outputs):
            raise ArtifactError(
                f"the hash in {MANIFEST} does not match its files", where=str(self.path), remedy=self._again
            )
        regular, odd = folder_entries(self.path)
        present = set(regular) - {MANIFEST}
        for name, digest in self.manifest.files.items():
            if name not in present and may_lack_weights and name.endswith(WEIGHTS):
                continue
            if name not in present:
                raise ArtifactError(f"{name} is missing", where=str(self.path), remedy=self._again)
            if hash_file(self.path / name) != digest:
                raise ArtifactError(
                    f"{name} has changed since the manifest was written", where=str(self.path), remedy=self._again
                )
        extra = sorted((present - set(self.manifest.files)) | set(odd))
        if extra:
            raise ArtifactError(f"{extra[0]} is not in the manifest", where=str(self.path), remedy=self._again)

    @property
    def _again(self) -> str:
        return f"run the stage again: fairlead run --force {self.manifest.stage}"


class Store:
    """The folder of all artifacts of a project."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def path(self, stage: str, key: str) -> Path:
        return self.root / stage / key

    def get(self, stage: str, key: str) -> Artifact | None:
        """The finished artifact of this key, or None.

        Raises:
            ArtifactError: if its manifest cannot be read.
        """
        path = self.path(stage, key)
        if not (path / MANIFEST).is_file():
            return None
        try:
            return Artifact(path, Manifest.read(path / MANIFEST))
        except (DataError, ArtifactError) as error:
            raise ArtifactError(
                f"cannot be read ({error.what})",
                where=str(path / MANIFEST),
                remedy=f"delete the folder {path} and run again",
            ) from error

    def is_started(self, stage: str, key: str) -> bool:
        """Whether the artifact of this key is in progress."""
        return self._partial_path(stage, key).exists()

    def _partial_path(self, stage: str, key: str) -> Path:
        return self.path(stage, key).with_name(f"{key}.partial")

    def partial(self, stage: str, key: str) -> Path:
        """The folder in which the artifact of this key is made; created if absent, kept after a kill."""
        path = self._partial_path(stage, key)
        with disk_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        return path

    def reopen(self, artifact: Artifact) -> None:
        """Fills the partial folder of an artifact's key with its files, for a run that completes it."""
        partial = self.partial(artifact.manifest.stage, artifact.manifest.key)
        with disk_errors(partial):
            shutil.copytree(artifact.path, partial, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))

    def finish(
        self,
        stage: str,
        key: str,
        *,
        outputs: Sequence[str],
        scratch: Sequence[str] = (),
        inputs: Mapping[str, str],
        config: Mapping[str, Any],
        figures: Mapping[str, Any],
        seconds: float,
        seed: int,
    ) -> Artifact:
        """Turns the partial folder into the artifact: deletes scratch files, writes the manifest last, renames.

        Args:
            outputs: files or folders that make up the artifact's identity; others (logs with times in them) are
                recorded and verified, but a change in them makes no later stage stale.
            scratch: files or folders that only a resumed run needs.
        """
        partial = self.partial(stage, key)
        for name in scratch:
            target = partial / name
            shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
        files = {name: hash_file(partial / name) for name in folder_entries(partial)[0] if name != MANIFEST}
        for name in outputs:
            if not (partial / name).exists():
                raise ArtifactError(f"the stage {stage} made no {name}", where=str(partial))
        manifest = Manifest(
            stage=stage,
            key=key,
            hash=_identity(stage, files, outputs),
            inputs=dict(inputs),
            config=dict(config),
            files=files,
            figures=dict(figures),
            seconds=round(seconds, 3),
            seed=seed,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            versions=package_versions(),
        )
        manifest.write(partial / MANIFEST)
        final = self.path(stage, key)
        with disk_errors(final):
            if final.exists():
                shutil.rmtree(final)
            partial.rename(final)
        return Artifact(final, manifest)


def _identity(stage: str, files: Mapping[str, str], outputs: Sequence[str]) -> str:
    """Identity of the files that the stage declares as outputs."""
    return content_id(stage, {n: d for n, d in files.items() if any(_within(n, output) for output in outputs)})


def _within(name: str, output: str) -> bool:
    """Whether a file is an output, or is in a folder that is one."""
    return name == output or name.startswith(f"{output}/")


def package_versions() -> dict[str, str]:
    """Versions of the packages that a result depends on."""
    versions: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
