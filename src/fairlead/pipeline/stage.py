"""What a stage is: a function, and all that it may read.

A stage is one function, `run(context) -> figures`, that is given the artifacts of the stages it names, the config
sections it names, and an empty (or, after a kill, half-filled) folder to work in. It can read nothing else: asking
the context for a section that the stage does not declare is an error,
so the key of an artifact can't miss anything.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel

from fairlead.config.project import Config
from fairlead.pipeline.artifacts import Artifact
from fairlead.progress import Progress

Figures = dict[str, Any]


@dataclass(frozen=True)
class Context:
    """All that a stage may read.

    Attributes:
        folder: the project folder, against which paths of the config are resolved.
        out: the folder to fill; after a kill it holds what the killed run left.
        inputs: the artifacts of the stages it declared, by name.
        sections: the config sections it declared, by name.
    """

    folder: Path
    out: Path
    inputs: Mapping[str, Artifact]
    sections: Mapping[str, Any]
    seed: int
    progress: Progress

    def section(self, name: str) -> Any:
        """A declared section of the config.

        Raises:
            LookupError: if the stage does not declare it, because then the artifact's key would not contain it.
        """
        if name not in self.sections:
            raise LookupError(f"the stage reads the section {name}, which it does not declare")
        return self.sections[name]

    def path(self, name: str) -> Path:
        """A path of the config, resolved against the project folder."""
        return resolve(self.folder, name)


@dataclass(frozen=True)
class Stage:
    """One node of the graph.

    Attributes:
        name: the word for its command, its folder and its place in reports.
        function: import path of `run(context) -> figures`.
        sections: attributes of `Config` that it reads, or attributes of those, as in pairs.max_missing.
        inputs: stages whose artifacts it reads, as far as they exist in this project.
        guards: stages that must have run, and whose decision must allow this one; it reads nothing else of them, so its
            key knows them not.
        outputs: files or folders that make its identity; a stage downstream is stale when these change.
        scratch: files or folders that only a resumed run needs.
        version: raised when the stage's code gives other results than before.
        sources: files outside the project's artifacts that it reads, by name, from the config.
        headline: the figure that `fairlead status` shows.
    """

    name: str
    function: str
    sections: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    summary: str
    guards: tuple[str, ...] = ()
    scratch: tuple[str, ...] = ()
    version: int = 1
    sources: Callable[[Config, Path], Mapping[str, Path]] = field(default=lambda _config, _folder: {})
    headline: str = ""

    def run(self, context: Context) -> Figures:
        module, _, name = self.function.partition(":")
        return cast(Figures, getattr(importlib.import_module(module), name)(context))

    def config(self, config: Config) -> dict[str, Any]:
        """The resolved sections this stage reads, as JSON values."""
        return {name: dump(attrgetter(name)(config)) for name in self.sections}


def dump(value: Any) -> Any:
    if isinstance(value, list):
        return [dump(item) for item in value]
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def resolve(folder: Path, name: str) -> Path:
    """A path of the config: absolute as it is, relative to the project folder otherwise."""
    path = Path(name).expanduser()
    return path if path.is_absolute() else Path(folder) / path
