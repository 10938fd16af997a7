"""A stage reads nothing that its key does not contain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest

from fairlead import Project
from fairlead.config.base import KeyMark, Section
from fairlead.config.project import Config
from fairlead.pipeline import outputs as files
from fairlead.pipeline.artifacts import Artifact, Manifest
from fairlead.pipeline.graph import ALL
from fairlead.pipeline.stage import Inputs, Stage


def made(project: Project) -> dict[str, Artifact]:
    return {stage.name: project.artifact(stage.name) for stage in project.stages}


def keys(project: Project, artifacts: Mapping[str, Artifact]) -> dict[str, str]:
    return {stage.name: project.plan(stage, artifacts).key for stage in project.stages}


def readers(project: Project, name: str, file: str | None = None) -> set[str]:
    """The stages that read a file of the stage `name`; without a file, those that read its manifest."""
    accesses = set()
    for stage in project.stages:
        declared = [output for output in stage.inputs_for(project.config) if output.stage == name]
        reads_file = file is not None and any(file == o.name or file.startswith(f"{o.name}/") for o in declared)
        if reads_file or (declared and stage.with_manifests):
            accesses.add(stage.name)
    return accesses


def another(value: Any) -> Any:
    """A value of the same type that differs."""
    if isinstance(value, dict):
        return {**value, "x": "y"}
    return f"{value}x" if isinstance(value, str) else value + 1


def test_every_field_of_every_manifest_makes_stale_the_stages_that_read_it_and_no_other(finished: Path) -> None:
    project = Project(finished)
    artifacts = made(project)
    before = keys(project, artifacts)
    assert len(artifacts) == 14
    changes = 0
    for name, artifact in artifacts.items():
        for field in Manifest.model_fields:
            manifest = artifact.manifest.model_copy(update={field: another(getattr(artifact.manifest, field))})
            after = keys(project, {**artifacts, name: Artifact(artifact.path, manifest)})
            stale = {stage for stage in after if after[stage] != before[stage]}
            assert stale == readers(project, name), (name, field)
            changes += 1
    assert changes == 14 * len(Manifest.model_fields)


def test_every_file_of_every_artifact_makes_stale_the_stages_that_declare_it_and_no_other(finished: Path) -> None:
    project = Project(finished)
    artifacts = made(project)
    before = keys(project, artifacts)
    changes = 0
    for name, artifact in artifacts.items():
        for file in artifact.manifest.files:
            content = {**artifact.manifest.files, file: "0" * 64}
            manifest = artifact.manifest.model_copy(update={"files": content})
            after = keys(project, {**artifacts, name: Artifact(artifact.path, manifest)})
            stale = {stage for stage in after if after[stage] != before[stage]}
            assert stale == readers(project, name, file), (name, file)
            changes += 1
    assert changes > 30


@pytest.mark.parametrize(
    "name", [stage.name for stage in ALL if stage.name not in ("judge_check", "arms", "gate", "report")]
)
def test_a_stage_gives_the_same_without_the_files_and_metrics_that_it_does_not_declare(
    project: Project, name: str
) -> None:
    artifacts = made(project)
    stage = next(stage for stage in project.stages if stage.name == name)
    keep = stage.inputs_for(project.config)
    bare = {other: without(artifact, stage, keep) for other, artifact in artifacts.items() if other != name}
    stage.run(project.context(name, bare, project.store.partial(name, "again")))
    again = project.store.finish(name, "again", outputs=(), inputs={}, config={}, figures={}, seconds=0, seed=0)
    for output in stage.outputs:
        assert again.hash_of(output.name) == artifacts[name].hash_of(output.name), str(output)


def without(artifact: Artifact, stage: Stage, keep: tuple[files.Output[Any], ...]) -> Artifact:
    """The artifact without what the stage does not declare."""
    names = [output.name for output in keep if output.stage == artifact.manifest.stage]
    for file in artifact.manifest.files:
        if not any(file == name or file.startswith(f"{name}/") for name in names):
            (artifact.path / file).unlink()
    return Artifact(artifact.path, artifact.manifest.model_copy(update={"figures": {}, "config": {}, "versions": {}}))


def test_what_a_stage_does_not_declare_is_refused(finished: Path) -> None:
    project = Project(finished)
    artifacts = made(project)
    inputs = Inputs(artifacts, (files.EVAL_PROMPTS,))
    assert inputs.path(files.EVAL_PROMPTS).is_file()
    for read in (inputs.path, inputs.hash, inputs.has):
        with pytest.raises(LookupError, match=r"prepare/sft\.jsonl, which it does not declare"):
            read(files.SFT_ROWS)
    with pytest.raises(LookupError, match="manifests, which it does not declare"):
        inputs.manifests()


def sections(kind: Any, seen: set[type] | None = None) -> Iterator[type[Section]]:
    """Every section type below a type."""
    seen = set() if seen is None else seen
    for part in (kind, *get_args(kind)):
        if isinstance(part, type) and issubclass(part, Section) and part not in seen:
            seen.add(part)
            yield part
            for field in part.model_fields.values():
                yield from sections(field.annotation, seen)
        elif part is not kind:
            yield from sections(part, seen)


def test_only_budgets_addresses_concurrency_prices_batches_of_inference_and_reasons_are_no_part_of_a_key() -> None:
    unkeyed = {
        f"{section.__name__}.{name}": next(mark.keeps for mark in field.metadata if isinstance(mark, KeyMark))
        for section in sections(Config)
        for name, field in section.model_fields.items()
        if any(isinstance(mark, KeyMark) for mark in field.metadata)
    }
    names = {key.partition(".")[2] for key, keeps in unkeyed.items() if keeps == "nothing"}
    assert names == {
        *("max_calls", "max_cost", "price_per_million_input_tokens", "price_per_million_output_tokens"),
        *("base_url", "api_key_env", "concurrency", "timeout_s", "max_retries", "price_per_hour", "batch_size"),
    }
    batched = {key for key in unkeyed if key.endswith(".batch_size")}
    assert batched == {  # every completion has its own random stream; a training's batches decide what is learnt
        *("SampleSection.batch_size", "AnswersSection.batch_size", "ProbeSettings.batch_size"),
        *("LocalModel.batch_size", "EmbeddingSettings.batch_size", "LocalSettings.batch_size"),
    }
    assert {key for key, keeps in unkeyed.items() if keeps == "presence"} == {"DecideSection.waive"}
    assert {key for key, keeps in unkeyed.items() if keeps == "names"} == {"DataCheckSettings.waive"}


def test_another_budget_or_address_makes_nothing_stale(finished: Path) -> None:
    project = Project(finished)
    judge = {"kind": "openai", "model": "m", "base_url": "http://127.0.0.1:1/v1"}

    def key_of(**changes: Any) -> str:
        variant = Config.model_validate(
            {**project.config.model_dump(exclude_unset=True), "judge": {**judge, **changes}}
        )
        return keys(Project(finished, config=variant), made(project))["judge"]

    before = key_of()
    assert key_of(max_calls=7, concurrency=3, base_url="http://127.0.0.1:2/v1", timeout_s=9.0) == before
    assert key_of(model="another") != before
