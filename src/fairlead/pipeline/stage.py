"""A stage: a function, and the declaration of everything that it may read.

The function is `run(context) -> metrics`. It gets the files of other stages and the part of the config that the stage
declares, and a folder to work in, which is empty or, after a kill, partly filled. Reading anything else is an error, so
the key of an artifact, which is computed from the same declarations, cannot miss an input.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from fairlead.config.base import NamedPath
from fairlead.config.project import Config
from fairlead.config.stage_settings import StageSettings
from fairlead.config.values.package_file import find_package_file, is_model_file, is_package_file, package_file
from fairlead.errors import ModelError
from fairlead.pipeline.artifacts import Artifact, Manifest
from fairlead.progress import Progress

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")
S_co = TypeVar("S_co", bound=StageSettings, covariant=True)

Metrics = dict[str, Any]  # what a stage measured, for people: status, the lock file, the report


@dataclass(frozen=True)
class Output(Generic[T_co]):
    """A file or folder that a stage makes, and how another stage reads it.

    Attributes:
        stage: the stage that makes it.
        name: its path in the artifact.
        read: returns the content of the file at a path.
    """

    stage: str
    name: str
    read: Callable[[Path], T_co]

    def __str__(self) -> str:
        return f"{self.stage}/{self.name}"


@dataclass(frozen=True)
class Inputs:
    """The files of other stages that a stage declares, as far as their stages exist in the project.

    Attributes:
        artifacts: the finished artifacts, by stage.
        declared: the outputs that may be read; reading any other is an error.
        with_manifests: whether the manifests of those stages may be read too; then the stage's key contains them.
    """

    artifacts: Mapping[str, Artifact]
    declared: tuple[Output[Any], ...]
    with_manifests: bool = False

    def has(self, output: Output[Any]) -> bool:
        """Whether the project has the stage that makes it."""
        self._demand_declared(output)
        return output.stage in self.artifacts

    def path(self, output: Output[Any]) -> Path:
        """The path of a declared output.

        Raises:
            LookupError: if the stage does not declare it, because then the artifact's key would not contain it.
        """
        self._demand_declared(output)
        return self.artifacts[output.stage].file(output.name)

    def hash(self, output: Output[Any]) -> str:
        """The hash of a declared output."""
        self._demand_declared(output)
        return self.artifacts[output.stage].hash_of(output.name)

    def hashes(self) -> dict[str, str]:
        """The hashes of all inputs for the stage's key, by name."""
        present = [output for output in self.declared if output.stage in self.artifacts]
        hashes = {str(output): self.hash(output) for output in present}
        if self.with_manifests:
            hashes |= {f"{name}/manifest.json": m.content_hash for name, m in sorted(self.manifests().items())}
        return hashes

    def manifests(self) -> dict[str, Manifest]:
        """The manifests of all stages that it reads from.

        Raises:
            LookupError: if the stage does not declare that it reads them.
        """
        if not self.with_manifests:
            raise LookupError("the stage reads manifests, which it does not declare")
        return {name: artifact.manifest for name, artifact in self.artifacts.items()}

    def _demand_declared(self, output: Output[Any]) -> None:
        if output not in self.declared:
            raise LookupError(f"the stage reads {output}, which it does not declare")


@dataclass(frozen=True)
class Context(Generic[S_co]):
    """Everything that a stage may read.

    Attributes:
        stage: the stage's name.
        folder: the project folder, against which paths of the config are resolved.
        out: the folder to write to; after a kill it holds the files of the killed run.
        settings: the stage's part of the config.
        inputs: the files of other stages that it declares.
    """

    stage: str
    folder: Path
    out: Path
    settings: S_co
    inputs: Inputs
    seed: int
    progress: Progress

    def read(self, output: Output[T]) -> T:
        """The content of another stage's file.

        Raises:
            LookupError: if the stage does not declare it.
        """
        return output.read(self.inputs.path(output))

    def path(self, name: str) -> Path:
        """A path of the config, resolved against the project folder."""
        return resolve(self.folder, name)


@dataclass(frozen=True)
class Stage:
    """One node of the graph.

    Attributes:
        name: its name in commands, folders and reports.
        function: import path of `run(context) -> metrics`; a path, because torch takes seconds to import.
        settings: the part of the config that it reads.
        inputs: files of other stages that it reads, if those stages exist in this project.
        inputs_if: further files that it reads only with some configs.
        runs_after: stages that must have finished before; it reads none of their files, so its key leaves them out.
        preflight: import path of a function of the stage's settings and the project folder that raises, before any
            stage runs, if this one cannot work.
        permission: import path of a function that raises if a stage that runs after this one may not start.
        outputs: files or folders that make up its identity.
        records: further files that other stages read; their bytes depend on the clock.
        scratch: files or folders that only a resumed run needs, also one that asks again for missing replies.
        project_files: files of the project folder that it reads where they exist.
        with_manifests: whether it reads the manifests of its inputs: times, versions, metrics.
        published: whether its files are copied to a folder of its name in the project folder.
        version: increased when the stage's code gives other results than before.
        summary: what it does, in a few words; {start} is the model that DPO starts from, {models} those that answer.
        headline: the metric that `fairlead status` shows.
        unanswered: the metric that counts requests without a reply; every later run sends those again, and the status
            mentions them.
    """

    name: str
    function: str
    settings: type[StageSettings]
    outputs: tuple[Output[Any], ...]
    summary: str
    inputs: tuple[Output[Any], ...] = ()
    inputs_if: Callable[[Config], tuple[Output[Any], ...]] = lambda _config: ()
    runs_after: tuple[str, ...] = ()
    preflight: str = ""
    permission: str = ""
    records: tuple[Output[Any], ...] = ()
    scratch: tuple[str, ...] = ()
    project_files: tuple[str, ...] = ()
    with_manifests: bool = False
    published: bool = False
    version: int = 1
    headline: str = ""
    unanswered: str = ""

    def run(self, context: Context[Any]) -> Metrics:
        return cast(Metrics, _imported(self.function)(context))

    def check(self, config: Config, folder: Path) -> None:
        """Raises if the config names something with which the stage cannot work, as far as a moment can tell."""
        if self.preflight:
            _imported(self.preflight)(self.settings.of(config), folder)

    def check_models(self, config: Config, folder: Path) -> None:
        """Raises if a model that is named as a file cannot be read, as far as a moment can tell."""
        for path in self.settings.of(config).named_paths():
            if path.names == "model":
                _check_model(path, folder)

    def permit(self, artifact: Artifact, *, stage: str, folder: Path) -> None:
        """Raises DecisionError if the artifact of this stage does not allow `stage` to start."""
        if self.permission:
            _imported(self.permission)(artifact, stage=stage, folder=folder)

    def summary_for(self, config: Config) -> str:
        """What it does in this project, in a few words."""
        with_sft = config.sft is not None
        models = "base, SFT and DPO" if with_sft else "base and DPO"
        return self.summary.format(start="SFT" if with_sft else "base", models=models)

    def inputs_for(self, config: Config) -> tuple[Output[Any], ...]:
        return (*self.inputs, *self.inputs_if(config))

    def upstream(self, config: Config) -> tuple[str, ...]:
        """The stages that come before it."""
        return tuple(dict.fromkeys((*self.runs_after, *(output.stage for output in self.inputs_for(config)))))


def _check_model(model: NamedPath, folder: Path) -> None:
    """Refuses a model that is named as a file and cannot be read."""
    if not is_model_file(model.text):
        return
    path = package_file(model.text) if is_package_file(model.text) else resolve(folder, model.text)
    if not path.exists():
        raise ModelError("no such file", where=f"{model.key}: {path}", remedy=f"correct {model.key}")
    if path.suffix.lower() == ".gguf":
        _imported("fairlead.models.gguf.cache:preflight")(path)


def _imported(path: str) -> Callable[..., Any]:
    module, _, name = path.partition(":")
    return cast(Callable[..., Any], getattr(importlib.import_module(module), name))


def looks_like_path(name: str) -> bool:
    """Whether the name of a model can be no hub id."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1


def resolve(folder: Path, name: str) -> Path:
    """A path of the config, resolved against the project folder if it is relative, or a file inside a package.

    It need not exist.
    """
    if is_package_file(name) and (file := find_package_file(name)) is not None:
        return file
    path = Path(name).expanduser()
    return path if path.is_absolute() else Path(folder) / path
