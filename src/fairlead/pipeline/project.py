"""A project: a folder with a `fairlead.yaml`, the artifacts made from it, and the walk over the graph."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

import yaml

from fairlead.config.project import Config, load_config
from fairlead.decide.permission import demand_fine_tuning
from fairlead.errors import ArtifactError, ConfigError, DataError, DecisionError
from fairlead.files import disk_errors, write_atomic
from fairlead.pipeline.artifacts import Artifact, Store
from fairlead.pipeline.graph import stages_of
from fairlead.pipeline.hash_cache import HashCache
from fairlead.pipeline.lock import project_lock
from fairlead.pipeline.stage import Context, Stage
from fairlead.progress import Progress, Silent
from fairlead.records import content_id

LOCK_NAME = "fairlead.pipeline.lock"

State = Literal["done", "stale", "started", "never run"]


@dataclass(frozen=True)
class StageStatus:
    """What `fairlead status` says of one stage.

    Attributes:
        state: done; stale (ran before, would run again); started (killed halfway, goes on); never run.
        why: what a stale stage would run again for.
        figures: what its last finished run measured.
    """

    stage: str
    state: State
    why: str
    headline: str
    figures: Mapping[str, Any]
    artifact: str | None
    seconds: float | None


@dataclass(frozen=True)
class _Plan:
    """What a stage would run on."""

    key: str
    config: dict[str, Any]
    inputs: dict[str, str]
    artifacts: dict[str, Artifact]


class Project:
    """A project folder.

    >>> from fairlead import Project
    >>> Project("my-project").run()                  # doctest: +SKIP

    Args:
        folder: the folder that holds `fairlead.yaml`.
        progress: where long work is shown; nowhere by default.

    Raises:
        ConfigError: if `fairlead.yaml` is missing or wrong.
    """

    def __init__(self, folder: str | Path, *, progress: Progress | None = None) -> None:
        self.folder = Path(folder)
        self.config: Config = load_config(self.folder)
        self.progress: Progress = Silent() if progress is None else progress
        self.store = Store(self.folder / "artifacts")
        self.stages: tuple[Stage, ...] = stages_of(self.config)
        self._hashes = HashCache(self.folder / ".fairlead" / "hashes.json")
        self._locked: dict[str, Any] | None = None

    def run(
        self,
        until: str | None = None,
        *,
        force: Sequence[str] = (),
        on_stage: Callable[[str, Artifact], None] | None = None,
    ) -> dict[str, Artifact]:
        """Runs what is not up to date, in order, and returns the artifacts by stage.

        Args:
            until: the last stage wanted; it and what it needs are run. All stages if None.
            force: stages to run even if they are up to date.
            on_stage: called with each stage's name and artifact before the next stage begins.

        Raises:
            FairleadError: with what, where and the command that mends it.
        """
        wanted = self._needed(until)
        unknown = set(force) - {stage.name for stage in wanted}
        if unknown:
            raise ConfigError(f"no stage {sorted(unknown)[0]} to force here", remedy=self._known())
        made: dict[str, Artifact] = {}
        with project_lock(self.folder):
            self._locked = None  # another process may have written it since
            for number, stage in enumerate(wanted, 1):
                self._ask_guards(stage, made)
                made[stage.name] = self._run_one(stage, made, force=stage.name in force, at=(number, len(wanted)))
                if on_stage is not None:
                    on_stage(stage.name, made[stage.name])
            self._hashes.save()
        return made

    def _ask_guards(self, stage: Stage, made: Mapping[str, Artifact]) -> None:
        """Raises DecisionError where a decision that the stage needs does not allow it."""
        if "decide" in stage.guards:  # the other guards raise by themselves when they run
            demand_fine_tuning(made["decide"], stage=stage.name, folder=self.folder)

    def _run_one(self, stage: Stage, made: Mapping[str, Artifact], *, force: bool, at: tuple[int, int]) -> Artifact:
        plan = self._plan(stage, made)
        artifact = self.store.get(stage.name, plan.key)
        if artifact is not None and not force:
            self._record(stage, artifact)
            return artifact
        self.progress.line(f"[{at[0]}/{at[1]}] {stage.name}: {stage.summary}")
        started = time.monotonic()
        out = self.store.partial(stage.name, plan.key)
        context = Context(
            folder=self.folder,
            out=out,
            inputs=plan.artifacts,
            sections={name: attrgetter(name)(self.config) for name in stage.sections},
            seed=self.config.seed,
            progress=self.progress,
        )
        with disk_errors(out):
            figures = stage.run(context)
        artifact = self.store.finish(
            stage.name,
            plan.key,
            outputs=stage.outputs,
            scratch=stage.scratch,
            inputs=plan.inputs,
            config=plan.config,
            figures=figures,
            seconds=time.monotonic() - started,
            seed=self.config.seed,
        )
        self._record(stage, artifact)
        self.progress.line(f"      {_headline(stage, figures)}  ({artifact.manifest.seconds:.1f} s)")
        return artifact

    def status(self) -> list[StageStatus]:
        """The state of every stage, and why a stale one is stale."""
        made: dict[str, Artifact] = {}
        locked = self._read_lock()
        waiting: list[str] = []
        rows: list[StageStatus] = []
        for stage in self.stages:
            upstream = [name for name in (*stage.guards, *stage.inputs) if name in waiting]
            if upstream:
                rows.append(self._status(stage, locked, "stale", f"{upstream[0]} comes first"))
                waiting.append(stage.name)
                continue
            try:
                self._ask_guards(stage, made)
                plan = self._plan(stage, made)
            except (DataError, DecisionError) as error:
                rows.append(self._status(stage, locked, "stale", str(error)))
                waiting.append(stage.name)
                continue
            artifact = self.store.get(stage.name, plan.key)
            if artifact is not None:
                made[stage.name] = artifact
                rows.append(self._status(stage, locked, "done", "", artifact))
                continue
            waiting.append(stage.name)
            if self.store.path(stage.name, plan.key).with_name(f"{plan.key}.partial").exists():
                rows.append(self._status(stage, locked, "started", "was stopped halfway; a run goes on from there"))
            else:
                rows.append(self._status(stage, locked, "stale", _difference(locked.get(stage.name), plan)))
        self._hashes.save()
        return rows

    def artifact(self, stage: str) -> Artifact:
        """The finished artifact of a stage for the present config and data.

        Raises:
            ArtifactError: if it has not been made, naming the command that makes it.
        """
        made: dict[str, Artifact] = {}
        for node in self._needed(stage):
            found = self.store.get(node.name, self._plan(node, made).key)
            if found is None:
                raise ArtifactError(
                    f"the stage {node.name} has not run for the present config and data",
                    where=str(self.folder),
                    remedy=f"run it: fairlead run {self.folder} --until {stage}",
                )
            made[node.name] = found
        return made[stage]

    def last(self, stage: str) -> Artifact:
        """The artifact that the stage's last finished run made, whatever the config and data are now.

        Raises:
            ArtifactError: if it never ran here, or its artifact is gone.
        """
        entry = self._read_lock().get(stage)
        found = self.store.get(stage, str(entry["artifact"])) if entry else None
        if found is None:
            raise ArtifactError(
                f"the stage {stage} has never run",
                where=str(self.folder),
                remedy=f"run it: fairlead run --until {stage}",
            )
        return found

    def report(self) -> dict[str, Any]:
        """The content of `report.json`, running what is needed first."""
        report = self.run()["report"]
        data: dict[str, Any] = json.loads(report.file("report.json").read_text(encoding="utf-8"))
        return data

    def _needed(self, until: str | None) -> list[Stage]:
        """The stages that `until` rests on, in order, itself last."""
        by_name = {stage.name: stage for stage in self.stages}
        if until is None:
            return list(self.stages)
        if until not in by_name:
            raise ConfigError(f"this project has no stage {until}", where=str(self.folder), remedy=self._known())
        needed, todo = set[str](), [until]
        while todo:
            name = todo.pop()
            if name in by_name and name not in needed:
                needed.add(name)
                todo.extend((*by_name[name].guards, *by_name[name].inputs))
        return [stage for stage in self.stages if stage.name in needed]

    def _known(self) -> str:
        return f"its stages are {', '.join(stage.name for stage in self.stages)}"

    def _plan(self, stage: Stage, made: Mapping[str, Artifact]) -> _Plan:
        artifacts = {name: made[name] for name in stage.inputs if name in made}
        inputs = {name: artifact.hash for name, artifact in artifacts.items()}
        for name, path in stage.sources(self.config, self.folder).items():
            try:
                inputs[name] = self._hashes.hash(path)
            except DataError as error:
                raise DataError(
                    f"{name} names {path}, which does not exist",
                    where=str(self.folder / "fairlead.yaml"),
                    remedy=f"put the file there, or correct {name}",
                ) from error
        config = stage.config(self.config)
        key = content_id(stage.name, stage.version, config, inputs, self.config.seed)
        return _Plan(key, config, inputs, artifacts)

    def _record(self, stage: Stage, artifact: Artifact) -> None:
        """Writes the artifact into `fairlead.pipeline.lock`, and the report where people look for it."""
        if stage.name == "report":
            self._publish(artifact)
        if self._locked is None:
            self._locked = self._read_lock()
        locked = self._locked
        manifest = artifact.manifest
        entry = {
            "artifact": manifest.key,
            "hash": manifest.hash,
            "inputs": dict(manifest.inputs),
            "config": dict(manifest.config),
            "seed": manifest.seed,
            "seconds": manifest.seconds,
            "figures": dict(manifest.figures),
        }
        if locked.get(stage.name) == entry:
            return
        locked[stage.name] = entry
        ordered = {s.name: locked[s.name] for s in self.stages if s.name in locked}
        text = "# Written by fairlead: what each stage was made from and what it measured. Commit it.\n"
        write_atomic(self.folder / LOCK_NAME, text + yaml.safe_dump(ordered, sort_keys=False, allow_unicode=True))

    def _publish(self, artifact: Artifact) -> None:
        target = self.folder / "report"
        with disk_errors(target):
            target.mkdir(exist_ok=True)
            for name in artifact.manifest.files:
                source = artifact.path / name
                copy = target / name
                if not copy.is_file() or copy.read_bytes() != source.read_bytes():
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    new = copy.with_name(f".{copy.name}.new")
                    shutil.copyfile(source, new)
                    new.replace(copy)

    def _read_lock(self) -> dict[str, Any]:
        path = self.folder / LOCK_NAME
        try:
            data = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ArtifactError(
                "cannot be read", where=str(path), remedy=f"delete it, then: fairlead run {self.folder}"
            ) from error
        return data if isinstance(data, dict) else {}

    def _status(
        self, stage: Stage, locked: dict[str, Any], state: State, why: str, artifact: Artifact | None = None
    ) -> StageStatus:
        entry = locked.get(stage.name)
        if artifact is None and entry is None and state == "stale" and not why.endswith("does not exist"):
            state = "never run"
        figures = artifact.manifest.figures if artifact else (entry or {}).get("figures", {})
        return StageStatus(
            stage=stage.name,
            state=state,
            why=why,
            headline=_headline(stage, figures),
            figures=figures,
            artifact=artifact.manifest.key if artifact else (entry or {}).get("artifact"),
            seconds=artifact.manifest.seconds if artifact else (entry or {}).get("seconds"),
        )


def _headline(stage: Stage, figures: Mapping[str, Any]) -> str:
    value = figures.get(stage.headline)
    if value is None:
        return ""
    shown = f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"{stage.headline.replace('_', ' ')} {shown}"


def _difference(entry: Mapping[str, Any] | None, plan: _Plan) -> str:
    """What changed between the run in the lock file and what would run now."""
    if entry is None:
        return ""
    changes = _diff(entry.get("config", {}), plan.config)
    before = entry.get("inputs", {})
    changes += [f"{name} changed" for name in plan.inputs if name in before and before[name] != plan.inputs[name]]
    changes += [f"{name} is new" for name in plan.inputs if name not in before]
    changes += [f"{name} is gone" for name in before if name not in plan.inputs]
    return "; ".join(changes) or "its artifact is gone, or the seed or the stage's code changed"


def _diff(old: Any, new: Any, at: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            change
            for key in sorted(old.keys() | new.keys())
            for change in _diff(old.get(key), new.get(key), f"{at}.{key}" if at else str(key))
        ]
    return [] if old == new else [f"{at}: {old} → {new}"]
