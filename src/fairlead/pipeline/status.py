"""The state of every stage of a project, and why a stale one would run again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from fairlead.config.project import Config
from fairlead.errors import DataError, DecisionError
from fairlead.files import dump_json
from fairlead.pipeline.artifacts import Artifact, Store
from fairlead.pipeline.lock_file import LockEntry, LockFile
from fairlead.pipeline.plan import Plan
from fairlead.pipeline.stage import Stage

State = Literal["done", "stale", "started", "blocked", "never run"]


class Project(Protocol):
    """What the status needs of a project."""

    folder: Path
    config: Config
    store: Store
    stages: tuple[Stage, ...]

    def ask_permission(self, stage: Stage, made: Mapping[str, Artifact]) -> None: ...

    def plan(self, stage: Stage, made: Mapping[str, Artifact]) -> Plan: ...


@dataclass(frozen=True)
class StageStatus:
    """What `fairlead status` says about one stage.

    Attributes:
        state: done; stale (ran before, would run again); started (killed halfway, would continue); blocked (a file that
            it needs is missing, or the decision does not allow it); never run.
        why: why a stale stage would run again, what a blocked one lacks, or how many replies a done one is missing.
        figures: what its last finished run measured.
    """

    stage: str
    state: State
    why: str
    headline: str
    figures: Mapping[str, Any]
    artifact: str | None
    seconds: float | None


def status_of(project: Project) -> list[StageStatus]:
    """One row per stage, in the order they run."""
    made: dict[str, Artifact] = {}
    entries = LockFile.read(project.folder).entries
    not_done: set[str] = set()
    rows: list[StageStatus] = []
    for stage in project.stages:
        entry = entries.get(stage.name)
        row = _status(project, stage, entry, made, not_done)
        if row.state != "done":
            not_done.add(stage.name)
        rows.append(row)
    return rows


def _status(
    project: Project, stage: Stage, entry: LockEntry | None, made: dict[str, Artifact], not_done: set[str]
) -> StageStatus:
    """The state of one stage; its artifact joins `made` if it is up to date."""
    ran: State = "stale" if entry is not None else "never run"
    first = next((name for name in stage.upstream(project.config) if name in not_done), None)
    if first is not None:
        return _row(stage, ran, f"{first} comes first", entry)
    try:
        project.ask_permission(stage, made)
        plan = project.plan(stage, made)
    except (DataError, DecisionError) as error:
        return _row(stage, "blocked", str(error), entry)
    artifact = project.store.get(stage.name, plan.key)
    if artifact is not None:
        made[stage.name] = artifact
        entry = LockEntry.of(artifact.manifest)
        count = unanswered(stage, entry.figures)
        why = f"{requests(count)}; the next run asks for {'it' if count == 1 else 'them'} again" if count else ""
        return _row(stage, "done", why, entry)
    if project.store.is_started(stage.name, plan.key):
        return _row(stage, "started", "was stopped halfway; a run continues from there", entry)
    return _row(stage, ran, "" if entry is None else difference(entry, plan), entry)


def _row(stage: Stage, state: State, why: str, entry: LockEntry | None) -> StageStatus:
    metrics: Mapping[str, Any] = {} if entry is None else entry.figures
    return StageStatus(
        stage=stage.name,
        state=state,
        why=why,
        headline=headline_of(stage, metrics),
        figures=metrics,
        artifact=None if entry is None else entry.artifact,
        seconds=None if entry is None else entry.seconds,
    )


def headline_of(stage: Stage, metrics: Mapping[str, Any]) -> str:
    """The stage's headline metric with its name and, if it has one, its n."""
    value = metrics.get(stage.headline)
    if value is None:
        return ""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    n = f" (n = {metrics['n']})" if "n" in metrics else ""
    return f"{stage.headline.replace('_', ' ')} {text}{n}"


def unanswered(stage: Stage, metrics: Mapping[str, Any]) -> int:
    """How many requests of a finished stage have no reply; the next run sends those again, and only those."""
    count = metrics.get(stage.unanswered)
    return count if isinstance(count, int) and count > 0 else 0  # a manifest may have been altered


def requests(count: int) -> str:
    """A number of requests without a reply, in words."""
    return f"{count} request{'s' * (count != 1)} without a reply"


def difference(entry: LockEntry, plan: Plan) -> str:
    """What differs between the run in the lock file and one made now."""
    changes = _changes(entry.config, plan.config)
    before, now = entry.inputs, plan.input_hashes
    changes += [f"{name} changed" for name in now if name in before and before[name] != now[name]]
    changes += [f"{name} is new" for name in now if name not in before]
    changes += [f"{name} is gone" for name in before if name not in now]
    return "; ".join(changes) or "its artifact is gone, or the seed or the stage's code changed"


def _changes(old: Any, new: Any, at: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            change
            for key in sorted(old.keys() | new.keys())
            for change in _changes(old.get(key), new.get(key), f"{at}.{key}" if at else str(key))
        ]
    return [] if old == new else [f"{at}: {_as_yaml(old)} → {_as_yaml(new)}"]


def _as_yaml(value: Any) -> str:
    """A value of the config as it is written in YAML, on one line."""
    return value if isinstance(value, str) else dump_json(value)
