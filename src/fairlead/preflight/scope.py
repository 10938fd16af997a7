"""What a run still has to do: only what these stages need is checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fairlead.config.base import NamedPath
from fairlead.config.project import Config
from fairlead.pipeline.project import Project
from fairlead.pipeline.stage import Stage, resolve


@dataclass(frozen=True)
class Scope:
    """The stages that are still to run, and what may be used to look at their needs.

    Attributes:
        offline: ask no endpoint and no hub.
    """

    config: Config
    folder: Path
    stages: tuple[Stage, ...]
    offline: bool = False

    @classmethod
    def of(cls, project: Project, until: str | None, force: Sequence[str], *, offline: bool) -> Scope:
        return cls(project.config, project.folder, tuple(project.remaining(until, force=force)), offline)

    def runs(self, *names: str) -> bool:
        """Whether one of these stages is still to run."""
        return any(stage.name in names for stage in self.stages)

    @property
    def decides(self) -> bool:
        """Whether candidates are still to be measured."""
        return self.runs("decide") and self.config.decide.waive is None

    @property
    def loads_base(self) -> bool:
        """Whether a stage that loads the base model is still to run."""
        return self.decides or self.runs("sft", "sample", "dpo", "answers", "arms", "probe")

    def named_paths(self) -> Iterator[NamedPath]:
        """Every path of the config that the stages read, once."""
        paths = {path.key: path for stage in self.stages for path in stage.settings.of(self.config).named_paths()}
        yield from paths.values()

    def path(self, name: str) -> Path:
        return resolve(self.folder, name)
