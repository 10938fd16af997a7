"""A project: a folder with a `fairlead.yaml`, the artifacts made from it, and the walk over the graph."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fairlead.config.loading.base_model import refuse_adapter_as_base
from fairlead.config.project import Config, load_config
from fairlead.errors import ArtifactError, ConfigError, JudgeError
from fairlead.files import disk_errors, read_json
from fairlead.pipeline import outputs as files
from fairlead.pipeline.artifacts import Artifact, Store
from fairlead.pipeline.graph import stages_of
from fairlead.pipeline.hash_cache import HashCache
from fairlead.pipeline.lock import project_lock
from fairlead.pipeline.lock_file import LockFile
from fairlead.pipeline.plan import Plan, plan_stage
from fairlead.pipeline.stage import Context, Inputs, Stage
from fairlead.pipeline.status import StageStatus, headline_of, requests, status_of, unanswered
from fairlead.progress import Progress, Silent
from fairlead.records import Completion


class Project:
    """A project folder.

    >>> from fairlead import Project
    >>> Project("my-project").run()                  # doctest: +SKIP

    Args:
        folder: the folder that holds `fairlead.yaml`.
        progress: shows the progress of long work; silent by default.
        config: a variant to use in place of `fairlead.yaml`; its artifacts join the project's, but the lock file and
            the published report stay those of `fairlead.yaml`.
        read_every_byte: hash every file again instead of trusting its size and modification time, as a release does.
        recorded: take the hash of a file that is not here (weights that nobody commits) from `fairlead.lock`, so that
            finished stages can be read on another machine.

    Attributes:
        ran: the stages that the last `run` made; all others were up to date.

    Raises:
        ConfigError: if `fairlead.yaml` is missing or wrong.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        progress: Progress | None = None,
        config: Config | None = None,
        read_every_byte: bool = False,
        recorded: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self.config: Config = load_config(self.folder) if config is None else config
        refuse_adapter_as_base(self.config.model, self.folder)
        self._is_variant = config is not None
        self.progress: Progress = Silent() if progress is None else progress
        self.store = Store(self.folder / "artifacts")
        self.stages: tuple[Stage, ...] = stages_of(self.config)
        self.ran: list[str] = []
        self._hashes = HashCache(self.folder / ".fairlead" / "hashes.json", use_cached=not read_every_byte)
        self._recorded = LockFile.read(self.folder).entries if recorded else {}

    def run(
        self,
        until: str | None = None,
        *,
        force: Sequence[str] = (),
        on_stage: Callable[[str, Artifact], None] | None = None,
    ) -> dict[str, Artifact]:
        """Runs the stages that are not up to date, in order, and returns the artifacts by stage.

        Args:
            until: the last stage to run, with all stages that it needs. All stages if None.
            force: stages to run even if they are up to date.
            on_stage: called with each stage's name and artifact before the next stage begins.

        Raises:
            FairleadError: with what failed, where, and how to fix it.
        """
        stages = self._needed(until)
        unknown = set(force) - {stage.name for stage in stages}
        if unknown:
            raise ConfigError(f"no stage {sorted(unknown)[0]} to force here", remedy=self._known())
        for stage in stages:
            stage.check(self.config, self.folder)
            stage.check_models(self.config, self.folder)
        made: dict[str, Artifact] = {}
        self.ran = []
        with project_lock(self.folder):
            lock_file = LockFile.read(self.folder)
            for number, stage in enumerate(stages, 1):
                self.ask_permission(stage, made)
                position = f"{number}/{len(stages)}"
                made[stage.name] = self._run_one(stage, made, lock_file, force=stage.name in force, position=position)
                if on_stage is not None:
                    on_stage(stage.name, made[stage.name])
            self._hashes.save()
        return made

    def run_alone(self, stage: str, *, force: bool = False) -> Artifact:
        """Runs one stage on what the stages before it have made; those never run.

        Raises:
            ArtifactError: if one of them has not run for the present config and data.
        """
        *before, node = self._needed(stage)
        self.ran = []
        with project_lock(self.folder):
            made = self._finished(before, node.name)
            artifact = self._run_one(node, made, LockFile.read(self.folder), force=force, position="1/1")
            self._hashes.save()
        return artifact

    def ask_permission(self, stage: Stage, made: Mapping[str, Artifact]) -> None:
        """Raises DecisionError where a stage before it does not allow it to start."""
        for before in self.stages:
            if before.name in stage.runs_after:
                before.permit(made[before.name], stage=stage.name, folder=self.folder)

    def plan(self, stage: Stage, made: Mapping[str, Artifact]) -> Plan:
        """What a stage would run on, given the artifacts made before it.

        Raises:
            DataError: if a file that the config names does not exist.
        """
        recorded = self._recorded[stage.name].inputs if stage.name in self._recorded else {}
        return plan_stage(stage, self.config, self.folder, made, self._hashes, recorded)

    def context(self, stage: str, made: Mapping[str, Artifact], out: Path) -> Context[Any]:
        """The context for the function of a stage."""
        node = self._node(stage)
        return self._context(node, self.plan(node, made).inputs, out)

    def _context(self, node: Stage, inputs: Inputs, out: Path) -> Context[Any]:
        return Context(
            stage=node.name,
            folder=self.folder,
            out=out,
            settings=node.settings.of(self.config),
            inputs=inputs,
            seed=self.config.seed,
            progress=self.progress,
        )

    def _run_one(
        self, stage: Stage, made: Mapping[str, Artifact], lock_file: LockFile, *, force: bool, position: str
    ) -> Artifact:
        plan = self.plan(stage, made)
        artifact = self.store.get(stage.name, plan.key)
        if artifact is None or force:
            self.progress.line(f"[{position}] {stage.name}: {stage.summary_for(self.config)}")
            artifact = self._make(stage, plan)
        elif count := unanswered(stage, artifact.manifest.figures):
            self.progress.line(f"[{position}] {stage.name}: asks again, {requests(count)}")
            artifact = self._ask_again(stage, plan, artifact)
        self._record(stage, artifact, lock_file)
        return artifact

    def _make(self, stage: Stage, plan: Plan) -> Artifact:
        """Runs the stage and finishes its artifact."""
        if not self.ran:
            self._demand_checks()
        started = time.monotonic()
        out = self.store.partial(stage.name, plan.key)
        with disk_errors(out):
            metrics = stage.run(self._context(stage, plan.inputs, out))
        count = unanswered(stage, metrics)
        artifact = self.store.finish(
            stage.name,
            plan.key,
            outputs=[output.name for output in stage.outputs],
            scratch=() if count else stage.scratch,  # what is asked again resumes in it
            inputs=plan.input_hashes,
            config=plan.config,
            figures=metrics,
            seconds=time.monotonic() - started,
            seed=self.config.seed,
        )
        self.ran.append(stage.name)
        self.progress.line(f"      {headline_of(stage, metrics)}  ({artifact.manifest.seconds:.1f} s)")
        if count:
            self.progress.line(f"      {stage.name}: {requests(count)}; the next run asks for them again")
        return artifact

    def _demand_checks(self) -> None:
        """Before the first stage that runs: a check without its file or function would fail after training."""
        from fairlead.checks import demand_checks  # jsonschema, and the user's own files

        demand_checks(self.config, self.folder)

    def _ask_again(self, stage: Stage, plan: Plan, artifact: Artifact) -> Artifact:
        """Makes the artifact once more, for the replies that it lacks; it stays as it is if that fails."""
        self.store.reopen(artifact)
        try:
            return self._make(stage, plan)
        except JudgeError as error:
            self.progress.line(
                f"      {stage.name}: no reply this time either, so its results stay as they are: {error}"
            )
            return artifact

    def _record(self, stage: Stage, artifact: Artifact, lock_file: LockFile) -> None:
        """Writes the artifact into `fairlead.lock`, and copies a published one to the folder named after the stage."""
        if self._is_variant:
            return
        if stage.published:
            self._publish(stage, artifact)
        lock_file.record(stage.name, artifact.manifest, order=[s.name for s in self.stages])

    def _publish(self, stage: Stage, artifact: Artifact) -> None:
        target = self.folder / stage.name
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

    def status(self) -> list[StageStatus]:
        """The state of every stage, and why a stale one is stale."""
        rows = status_of(self)
        self._hashes.save()
        return rows

    def remaining(self, until: str | None = None, *, force: Sequence[str] = ()) -> list[Stage]:
        """The stages that `run` with these arguments would run; one of them may still turn out to be up to date."""
        done = {row.stage for row in self.status() if row.state == "done"} - set(force)
        return [stage for stage in self._needed(until) if stage.name not in done]

    def artifact(self, stage: str) -> Artifact:
        """The finished artifact of a stage for the present config and data.

        Raises:
            ArtifactError: if it has not been made, naming the command that makes it.
        """
        return self._finished(self._needed(stage), stage)[stage]

    def answers(self) -> dict[str, list[Completion]]:
        """Every arm's answers to the held-out prompts, by arm.

        Raises:
            ArtifactError: if they have not been made.
        """
        made = {stage.name for stage in self.stages}
        present = [output for output in (files.ANSWERS, files.ARM_ANSWERS) if output.stage in made]
        return files.by_model(row for f in present for row in f.read(self.artifact(f.stage).file(f.name)))

    def _finished(self, stages: Sequence[Stage], wanted_for: str) -> dict[str, Artifact]:
        """The finished artifacts of stages that are given in order."""
        made: dict[str, Artifact] = {}
        for stage in stages:
            artifact = self.store.get(stage.name, self.plan(stage, made).key)
            if artifact is None:
                raise ArtifactError(
                    f"the stage {stage.name} has not run for the present config and data",
                    where=str(self.folder),
                    remedy=f"run it: fairlead run {self.folder} --until {wanted_for}",
                )
            made[stage.name] = artifact
        return made

    def last(self, stage: str) -> Artifact:
        """The artifact of the stage's last finished run, even if the config or data have changed since.

        Raises:
            ArtifactError: if it has never run here, or its artifact has been deleted.
        """
        entry = LockFile.read(self.folder).entries.get(stage)
        artifact = self.store.get(stage, entry.artifact) if entry else None
        if artifact is None:
            raise ArtifactError(
                f"the stage {stage} has never run",
                where=str(self.folder),
                remedy=f"run it: fairlead run {self.folder} --until {stage}",
            )
        return artifact

    def report(self) -> dict[str, Any]:
        """The content of `report.json`, running what is needed first."""
        content: dict[str, Any] = read_json(self.run()[files.REPORT.stage].file(files.REPORT.name))
        return content

    def _needed(self, until: str | None) -> list[Stage]:
        """The stages that `until` depends on, in order, with itself last."""
        if until is None:
            return list(self.stages)
        by_name = {stage.name: stage for stage in self.stages}
        needed, pending = set[str](), [self._node(until).name]
        while pending:
            name = pending.pop()
            if name in by_name and name not in needed:
                needed.add(name)
                pending.extend(by_name[name].upstream(self.config))
        return [stage for stage in self.stages if stage.name in needed]

    def _node(self, name: str) -> Stage:
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise ConfigError(f"this project has no stage {name}", where=str(self.folder), remedy=self._known())

    def _known(self) -> str:
        return f"its stages are {', '.join(stage.name for stage in self.stages)}"
