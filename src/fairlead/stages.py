"""The graph: which stages there are, what each reads, and what it makes.

A stage is one function, `run(context) -> figures`, that is given the artifacts of the stages it names, the config
sections it names, and an empty (or, after a kill, half-filled) folder to work in. It can read nothing else: asking
the context for a section that the stage does not declare is an error,
so the key of an artifact can't miss anything.

The functions are named by import path, because torch takes seconds to import and `fairlead status` should not.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel

from fairlead.artifacts import Artifact
from fairlead.config import Config
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
    scratch: tuple[str, ...] = ()
    version: int = 1
    sources: Callable[[Config, Path], Mapping[str, Path]] = field(default=lambda _config, _folder: {})
    headline: str = ""

    def run(self, context: Context) -> Figures:
        module, _, name = self.function.partition(":")
        return cast(Figures, getattr(importlib.import_module(module), name)(context))

    def config(self, config: Config) -> dict[str, Any]:
        """The resolved sections this stage reads, as JSON values."""
        return {name: _dump(attrgetter(name)(config)) for name in self.sections}


def _dump(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def resolve(folder: Path, name: str) -> Path:
    """A path of the config: absolute as it is, relative to the project folder otherwise."""
    path = Path(name).expanduser()
    return path if path.is_absolute() else Path(folder) / path


def _data_sources(config: Config, folder: Path) -> dict[str, Path]:
    """The data files; a name that is no path is a hub id, whose identity is its name in the config."""
    data = config.data
    found = {"sft": data.sft, "prompts": data.prompts, "eval": data.eval, "preferences": data.preferences}
    paths = {f"data.{key}": resolve(folder, name) for key, name in found.items() if name}
    is_hub_id = "data.preferences" in paths and not paths["data.preferences"].exists()
    if is_hub_id:
        del paths["data.preferences"]
    return paths


def _model_sources(config: Config, folder: Path) -> dict[str, Path]:
    paths: dict[str, Path] = {}
    base = resolve(folder, config.model.name)
    if base.is_dir():
        paths["model"] = base
    if config.model.chat_template:
        paths["model.chat_template"] = resolve(folder, config.model.chat_template)
    return paths


def _judge_sources(section: str) -> Callable[[Config, Path], dict[str, Path]]:
    """Files that a judge or the checks name: functions, schemas, prompt templates."""

    def sources(config: Config, folder: Path) -> dict[str, Path]:
        values = [config.eval.metrics, config.eval_judge] if section == "eval" else [config.judge]
        found: dict[str, Path] = {}
        for text in _strings([_dump(v) if not isinstance(v, list) else [_dump(x) for x in v] for v in values]):
            path = resolve(folder, text.split(":")[0])
            if len(text) < 300 and "\n" not in text and path.suffix and path.is_file():
                found[text] = path
        return found

    return sources


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [s for v in value.values() for s in _strings(v)]
    if isinstance(value, list):
        return [s for v in value for s in _strings(v)]
    return []


_PREPARE = Stage(
    "prepare",
    "fairlead.preferences.prepare:run",
    sections=("data",),
    inputs=(),
    outputs=("sft.jsonl", "prompts.jsonl", "preferences.jsonl", "eval.jsonl"),
    sources=_data_sources,
    headline="eval",
    summary="read the data, drop duplicates and leaks",
)
_SFT = Stage(
    "sft",
    "fairlead.training.sft:run",
    sections=("model", "lora", "sft"),
    inputs=("prepare",),
    outputs=("model",),
    scratch=("checkpoints",),
    sources=_model_sources,
    headline="validation_loss",
    summary="supervised fine-tuning of the base model",
)
_SAMPLE = Stage(
    "sample",
    "fairlead.preferences.sample:run",
    sections=("model", "sample"),
    inputs=("prepare", "sft"),
    outputs=("completions.jsonl",),
    scratch=("chunks.jsonl",),
    sources=_model_sources,
    headline="completions",
    summary="completions of the SFT model for every task prompt",
)
_JUDGE = Stage(
    "judge",
    "fairlead.preferences.judge:run",
    sections=("judge", "pairs.max_missing"),
    inputs=("prepare", "sample"),
    outputs=("verdicts.jsonl", "comparisons.jsonl"),
    sources=_judge_sources("judge"),
    headline="verdicts",
    summary="the judge's verdicts on the completions",
)
_PAIRS = Stage(
    "pairs",
    "fairlead.preferences.pairs:run",
    sections=("pairs", "data"),
    inputs=("prepare", "sample", "judge"),
    outputs=("train.jsonl", "validation.jsonl"),
    headline="train",
    summary="preference triples, checked and split",
)
_DPO = Stage(
    "dpo",
    "fairlead.training.dpo:run",
    sections=("model", "lora", "dpo"),
    inputs=("sft", "pairs"),
    outputs=("model",),
    scratch=("checkpoints",),
    sources=_model_sources,
    headline="validation_reward_gap",
    summary="direct preference optimisation from the SFT model",
)
_ANSWERS = Stage(
    "answers",
    "fairlead.evaluation.answers:run",
    sections=("model", "answers"),
    inputs=("prepare", "sft", "dpo"),
    outputs=("answers.jsonl", "samples.md"),
    scratch=("chunks",),
    sources=_model_sources,
    headline="answers",
    summary="base, SFT and DPO answer the held-out prompts",
)
_EVAL = Stage(
    "eval",
    "fairlead.evaluation.compare:run",
    sections=("eval", "eval_judge"),
    inputs=("prepare", "answers"),
    outputs=("comparison.json", "scores.jsonl", "verdicts.jsonl"),
    sources=_judge_sources("eval"),
    headline="win_rate",
    summary="metrics, scores and win rates with error bars",
)
_GATE = Stage(
    "gate",
    "fairlead.release.gate:run",
    sections=("gate", "data"),
    inputs=("prepare", "sft", "pairs", "dpo", "answers", "eval"),
    outputs=("gate.json",),
    headline="status",
    summary="the criteria that a release must meet",
)
_REPORT = Stage(
    "report",
    "fairlead.release.report:run",
    sections=("report", "name"),
    inputs=("prepare", "sft", "sample", "judge", "pairs", "dpo", "answers", "eval", "gate"),
    outputs=("report.md", "report.json"),
    headline="status",
    summary="the table, the samples and the lineage",
)

_ALL = (_PREPARE, _SFT, _SAMPLE, _JUDGE, _PAIRS, _DPO, _ANSWERS, _EVAL, _GATE, _REPORT)


def stages_of(config: Config) -> tuple[Stage, ...]:
    """The stages of a project in the order they run; those that the config switches off are absent."""
    absent: set[str] = set()
    if config.sft is None:
        absent.add("sft")
    if not config.data.prompts:
        absent |= {"sample", "judge"}
    return tuple(stage for stage in _ALL if stage.name not in absent)
