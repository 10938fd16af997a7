"""Whether a candidate may be released: the gate must have passed it, and judged the very files at hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fairlead.documents.gate import Candidate, GateRecord
from fairlead.documents.report import Report
from fairlead.documents.training import Origin
from fairlead.errors import ArtifactError, DataError
from fairlead.gate.stage import weights
from fairlead.pipeline.artifacts import Artifact
from fairlead.pipeline.outputs import DPO_ORIGIN, SFT_ORIGIN
from fairlead.pipeline.project import Project
from fairlead.records import content_id

CANDIDATES: tuple[Candidate, ...] = ("sft", "dpo")


@dataclass(frozen=True)
class Evidence:
    """What is known about a candidate.

    Attributes:
        trained: the artifacts of the training stages, by stage; the candidate's own is what is released.
        gate: the gate's artifact; None where the gate has not run for the present config and data.
        record: its gate.json; None where `gate` is None.
        report: report.json; None where `gate` is None, or where the file has changed since the stage wrote it.
        problems: why it may not be released, one clause per reason; empty where it may.
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

    @property
    def origins(self) -> dict[str, Origin]:
        """Where the models come from that were not trained here, by stage."""
        return {
            output.stage: output.read(self.trained[output.stage].file(output.name))
            for output in (SFT_ORIGIN, DPO_ORIGIN)
            if output.stage in self.trained and output.name in self.trained[output.stage].manifest.files
        }


def gather(project: Project, candidate: Candidate) -> Evidence:
    """Reads the evidence and compares every file with the recorded hashes; runs the report stage if it has not run.

    Raises:
        ArtifactError: if the candidate has never been trained.
    """
    names = [stage.name for stage in project.stages if stage.name in ("sft", candidate)]
    trained: dict[str, Artifact]
    try:
        trained = {name: project.artifact(name) for name in names}
    except (ArtifactError, DataError):
        # The config or the data have changed, but the model trained last is still there.
        trained = {name: project.last(name) for name in names}
        problem = f"config or data have changed since {candidate} was trained"
        return Evidence(candidate, trained, None, None, None, (problem, *_changed(project, trained.values())))
    try:
        gate = project.artifact("gate")
    except ArtifactError:
        problem = "the gate has not run for the present config, data and weights"
        return Evidence(candidate, trained, None, None, None, (problem, *_changed(project, _existing(project))))
    # Compare the judged files with their manifests, and the manifests with the gate's record.
    record = GateRecord.read(gate.file("gate.json"))
    judged = {name: project.artifact(name) for name in _judged_stages(project, gate)}
    problems = [*_changed(project, [*judged.values(), gate]), *_differences(record, judged, candidate)]
    problems += _objections(record, candidate)
    report, changed = _report(project)
    return Evidence(candidate, trained, gate, record, report, (*problems, *changed))


def verify_judged(project: Project, *, may_lack_weights: bool = False) -> None:
    """Compares every file that the gate judged, and those that it wrote, with the manifests.

    Args:
        may_lack_weights: accept that files of weights are not here; their recorded hashes are part of the evidence.

    Raises:
        ArtifactError: naming what has changed.
    """
    gate = project.artifact("gate")
    judged = [project.artifact(name) for name in _judged_stages(project, gate)]
    changed = _changed(project, [*judged, gate], may_lack_weights=may_lack_weights)
    if changed:
        raise ArtifactError(
            "; ".join(changed), where=str(project.folder), remedy="run the stage again: fairlead run --force STAGE"
        )


def _outputs(project: Project) -> dict[str, tuple[str, ...]]:
    """What each stage counts as its output."""
    return {stage.name: tuple(output.name for output in stage.outputs) for stage in project.stages}


def _judged_stages(project: Project, gate: Artifact) -> list[str]:
    """The stages whose files the gate read."""
    read = {name.partition("/")[0] for name in gate.manifest.inputs}
    return [stage.name for stage in project.stages if stage.name in read]


def _existing(project: Project) -> list[Artifact]:
    """The artifacts that exist for the present config and data."""
    artifacts = []
    for stage in project.stages:
        try:
            artifacts.append(project.artifact(stage.name))
        except ArtifactError:
            continue
    return artifacts


def _changed(project: Project, artifacts: Iterable[Artifact], *, may_lack_weights: bool = False) -> list[str]:
    """Files that differ from their manifest, and manifests whose hash is not that of the files they list."""
    changes = []
    for artifact in artifacts:
        try:
            artifact.verify(_outputs(project)[artifact.manifest.stage], may_lack_weights=may_lack_weights)
        except ArtifactError as error:
            changes.append(f"{artifact.manifest.stage}: {error.what}")
    return changes


def _differences(record: GateRecord, judged: Mapping[str, Artifact], candidate: Candidate) -> list[str]:
    """Where the project now differs from what the gate recorded."""
    differences = [
        f"the gate judged {name} {record.judged.get(name)}, the project now has {artifact.hash}"
        for name, artifact in judged.items()
        if record.judged.get(name) != artifact.hash
    ]
    if record.adapters.get(candidate) != weights(judged[candidate].manifest):
        differences.append(f"the gate judged other weights of {candidate}")
    if record.eval_prompts != judged["prepare"].manifest.files.get("eval.jsonl"):
        differences.append("the gate judged answers to other eval prompts")
    configs = {name: dict(artifact.manifest.config) for name, artifact in sorted(judged.items())}
    if record.config_hash != content_id(configs):
        differences.append("the gate judged another config")
    return differences


def _objections(record: GateRecord, candidate: Candidate) -> list[str]:
    """Why the gate does not allow the candidate, with the criteria that it misses."""
    judged = record.candidates.get(candidate)
    if judged is None:
        return [f"the gate has not judged {candidate}"]
    if judged.status == "passed":
        return []
    missed = ", ".join(c.figure for c in judged.criteria if c.status != "passed") or "no criterion concerns it"
    return [f"the gate says {judged.status} for {candidate} ({missed}); its advice: {record.advice}"]


def _report(project: Project) -> tuple[Report | None, list[str]]:
    """The report, or what has changed in its files since they were written; runs the stage if it has not run."""
    try:
        report = project.artifact("report")
    except ArtifactError:
        report = project.run("report")["report"]
    changes = _changed(project, [report])
    return None if changes else Report.read(report.file("report.json")), changes
