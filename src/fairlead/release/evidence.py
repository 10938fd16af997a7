"""Whether a candidate may be released: the gate's verdict, and that it speaks of the bytes at hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fairlead.documents.gate import Candidate, GateRecord
from fairlead.documents.report import Report
from fairlead.errors import ArtifactError, DataError
from fairlead.gate.stage import weights
from fairlead.pipeline.artifacts import Artifact
from fairlead.pipeline.project import Project
from fairlead.records import content_id

CANDIDATES: tuple[Candidate, ...] = ("sft", "dpo")


@dataclass(frozen=True)
class Evidence:
    """What is known about a candidate.

    Attributes:
        trained: the artifacts of the training, by stage: what is released is that of the candidate.
        gate: the gate's artifact, None where the gate has not run for the present config and data.
        record: content of its gate.json, None likewise.
        report: content of report.json, None where it is not what the stage wrote, or there is no gate.
        problems: why it may not be released, each in one clause; empty where it may.
    """

    candidate: Candidate
    trained: Mapping[str, Artifact]
    gate: Artifact | None
    record: GateRecord | None
    report: Report | None
    problems: tuple[str, ...]

    @property
    def models(self) -> dict[str, Path]:
        """The folders of the trained models, by stage."""
        return {name: artifact.file("model") for name, artifact in self.trained.items()}

    @property
    def model(self) -> Artifact:
        return self.trained[self.candidate]


def gather(project: Project, candidate: Candidate) -> Evidence:
    """Reads the evidence and compares every byte of it with what it names; writes the report if it is absent.

    Raises:
        ArtifactError: if the candidate itself has never been made.
    """
    names = [stage.name for stage in project.stages if stage.name in ("sft", candidate)]
    trained: dict[str, Artifact]
    try:
        trained = {name: project.artifact(name) for name in names}
    except (ArtifactError, DataError):
        # What was trained last is still there, though the config or the data are others now.
        trained = {name: project.last(name) for name in names}
        problem = f"config or data have changed since {candidate} was trained"
        return Evidence(candidate, trained, None, None, None, (problem, *_changed(project, trained.values())))
    try:
        gate = project.artifact("gate")
    except ArtifactError:
        problem = "the gate has not run for the present config, data and weights"
        return Evidence(candidate, trained, None, None, None, (problem, *_changed(project, _made(project))))
    # Every file of what the gate judged against its manifest, every manifest against the gate's record.
    record = GateRecord.read(gate.file("gate.json"))
    judged = {name: project.artifact(name) for name in _judged_stages(project, gate)}
    problems = [*_changed(project, [*judged.values(), gate]), *_other_bytes(record, judged, candidate)]
    problems += _verdict(record, candidate)
    report, faults = _report(project)
    return Evidence(candidate, trained, gate, record, report, (*problems, *faults))


def verify_judged(project: Project) -> None:
    """Compares every file of what the gate judged, and of its record, with their manifests.

    Raises:
        ArtifactError: naming what has changed.
    """
    gate = project.artifact("gate")
    judged = [project.artifact(name) for name in _judged_stages(project, gate)]
    changed = _changed(project, [*judged, gate])
    if changed:
        raise ArtifactError(
            "; ".join(changed), where=str(project.folder), remedy="make it again: fairlead run --force STAGE"
        )


def _outputs(project: Project) -> dict[str, tuple[str, ...]]:
    """What each stage counts as its output."""
    return {stage.name: tuple(output.name for output in stage.outputs) for stage in project.stages}


def _judged_stages(project: Project, gate: Artifact) -> list[str]:
    """The stages whose files the gate read."""
    read = {name.partition("/")[0] for name in gate.manifest.inputs}
    return [stage.name for stage in project.stages if stage.name in read]


def _made(project: Project) -> list[Artifact]:
    """The artifacts that there are for the present config and data."""
    made = []
    for stage in project.stages:
        try:
            made.append(project.artifact(stage.name))
        except ArtifactError:
            continue
    return made


def _changed(project: Project, artifacts: Iterable[Artifact]) -> list[str]:
    """Files that are not what their manifest names, manifests whose hash is not that of their files."""
    found = []
    for artifact in artifacts:
        try:
            artifact.verify(_outputs(project)[artifact.manifest.stage])
        except ArtifactError as error:
            found.append(f"{artifact.manifest.stage}: {error.what}")
    return found


def _other_bytes(record: GateRecord, judged: Mapping[str, Artifact], candidate: Candidate) -> list[str]:
    """What the record names and is not at hand."""
    found = [
        f"the gate judged {name} {record.judged.get(name)}, here is {artifact.hash}"
        for name, artifact in judged.items()
        if record.judged.get(name) != artifact.hash
    ]
    if record.adapters.get(candidate) != weights(judged[candidate].manifest):
        found.append(f"the gate judged other weights of {candidate} than these")
    if record.eval_prompts != judged["prepare"].manifest.files.get("eval.jsonl"):
        found.append("the gate judged on other eval prompts than these")
    configs = {name: dict(artifact.manifest.config) for name, artifact in sorted(judged.items())}
    if record.config_hash != content_id(configs):
        found.append("the gate judged another config than this")
    return found


def _verdict(record: GateRecord, candidate: Candidate) -> list[str]:
    judged = record.candidates.get(candidate)
    if judged is None:
        return [f"the gate has not judged {candidate}"]
    if judged.status == "passed":
        return []
    missed = ", ".join(c.figure for c in judged.criteria if c.status != "passed") or "no criterion concerns it"
    return [f"the gate says {judged.status} for {candidate} ({missed}); its advice: {record.advice}"]


def _report(project: Project) -> tuple[Report | None, list[str]]:
    """The report, or what is wrong with it. One that has not been written yet is written."""
    try:
        report = project.artifact("report")
    except ArtifactError:
        report = project.run("report")["report"]
    faults = _changed(project, [report])
    return None if faults else Report.read(report.file("report.json")), faults
