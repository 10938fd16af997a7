"""A prepared project without the walk over the graph: what the stage `decide` reads, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fairlead.config.data import DataCheckSettings
from fairlead.config.decide import DecideSection
from fairlead.config.evaluation import AnswersSection, EvalSection
from fairlead.config.judges import JudgeSettings
from fairlead.config.model import ModelSection
from fairlead.config.release import GateSection
from fairlead.config.stage_settings import DecideSettings
from fairlead.decide.permission import read_decision
from fairlead.decide.stage import run
from fairlead.documents.prepare import PrepareCounts
from fairlead.files import write_jsonl
from fairlead.pipeline import outputs as files
from fairlead.pipeline.artifacts import Artifact, Store
from fairlead.pipeline.stage import Context, Inputs
from fairlead.progress import Silent
from fairlead.records import Example, Preference, Prompt, to_json


class Shown(Silent):
    """Keeps the lines that a user would see."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


def prepared(
    folder: Path,
    dev: Sequence[Prompt],
    *,
    sft: Sequence[Example] = (),
    prompts: Sequence[Prompt] = (),
    preferences: Sequence[Preference] = (),
    counts: PrepareCounts | None = None,
) -> Artifact:
    store = Store(folder / "artifacts")
    out = store.partial("prepare", "k")
    for name, rows in (("dev", dev), ("sft", sft), ("prompts", prompts), ("preferences", preferences)):
        write_jsonl(out / f"{name}.jsonl", map(to_json, rows))
    (counts or PrepareCounts()).write(out / "counts.json")
    return store.finish("prepare", "k", outputs=["dev.jsonl"], inputs={}, config={}, figures={}, seconds=0, seed=0)


def decide(
    folder: Path,
    prepare: Artifact,
    *,
    model: Path,
    section: dict[str, Any],
    metrics: Sequence[dict[str, Any]],
    criteria: Sequence[dict[str, Any]] = (),
    max_new_tokens: int = 8,
    judge: JudgeSettings | None = None,
    progress: Shown | None = None,
) -> tuple[dict[str, Any], Artifact]:
    """The decision and its artifact."""
    settings = DecideSettings.model_construct(
        decide=DecideSection.model_validate(section),
        model=ModelSection(name=str(model)),
        answers=AnswersSection(max_new_tokens=max_new_tokens, batch_size=64),
        metrics=EvalSection.model_validate({"metrics": list(metrics)}).metrics,
        max_missing=0.1,
        judge=judge,
        criteria=GateSection.model_validate({"criteria": list(criteria)}).criteria if criteria else None,
        similarity=0.8,
        data_check=DataCheckSettings(),
    )
    store = Store(folder / "artifacts")
    out = store.partial("decide", "k")
    declared = (files.DEV_PROMPTS, files.SFT_ROWS, files.TASK_PROMPTS, files.READY_PAIRS, files.PREPARE_COUNTS)
    context = Context(
        stage="decide",
        folder=folder,
        out=out,
        settings=settings,
        inputs=Inputs({"prepare": prepare}, declared),
        seed=0,
        progress=progress or Silent(),
    )
    figures = run(context)
    artifact = store.finish(
        "decide",
        "k",
        outputs=["decision.json", "decision.md", "answers.jsonl"],
        scratch=["candidates"],
        inputs={},
        config={},
        figures=figures,
        seconds=0,
        seed=0,
    )
    return read_decision(artifact).content(), artifact
