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
        return {name: _dump(attrgetter(name)(config)) for name in self.sections}


def _dump(value: Any) -> Any:
    if isinstance(value, list):
        return [_dump(item) for item in value]
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def resolve(folder: Path, name: str) -> Path:
    """A path of the config: absolute as it is, relative to the project folder otherwise."""
    path = Path(name).expanduser()
    return path if path.is_absolute() else Path(folder) / path


def _data_sources(config: Config, folder: Path) -> dict[str, Path]:
    """The data files; a name that is no path is a hub id, whose identity is its name in the config."""
    data = config.data
    names = ("sft", "prompts", "eval", "dev", "preferences")
    found = {name: getattr(data, name) for name in names}
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


def _dpo_sources(config: Config, folder: Path) -> dict[str, Path]:
    named = {"dpo.label_checks": config.dpo.label_checks, "watch.general": config.watch.general}
    files = {key: resolve(folder, name) for key, name in named.items() if name}
    return _model_sources(config, folder) | files


def _judge_sources(section: str) -> Callable[[Config, Path], dict[str, Path]]:
    """Files that a judge or the checks name: functions, schemas, prompt templates."""

    def sources(config: Config, folder: Path) -> dict[str, Path]:
        values = [config.eval.metrics, config.eval_judge] if section == "eval" else [config.judge]
        return _named_files([_dump(v) if not isinstance(v, list) else [_dump(x) for x in v] for v in values], folder)

    return sources


def _named_files(values: Any, folder: Path) -> dict[str, Path]:
    """The files that strings anywhere in `values` name."""
    found: dict[str, Path] = {}
    for text in _strings(values):
        path = resolve(folder, text.split(":")[0])
        if len(text) < 300 and "\n" not in text and path.suffix and path.is_file():
            found[text] = path
    return found


def _decide_sources(config: Config, folder: Path) -> dict[str, Path]:
    """The base model, the checks' files, the documents, and the other models that are folders."""
    paths = {**_model_sources(config, folder), **_judge_sources("eval")(config, folder)}
    section = config.decide
    if section.waive is not None:
        return {}
    if section.retrieval is not None:
        paths["decide.retrieval.documents"] = resolve(folder, section.retrieval.documents)
    others = {f"decide.models {model.model}": model.model for model in section.models if model.kind == "local"}
    if section.embedding is not None:
        others["decide.embedding"] = section.embedding.model
    folders = {name: resolve(folder, model) for name, model in others.items()}
    return paths | {name: path for name, path in folders.items() if path.is_dir()}


def _probe_sources(config: Config, folder: Path) -> dict[str, Path]:
    """The models' files, and the texts and rows that the probe reads."""
    probe = config.probe
    if probe is None:
        return {}
    named = {"probe.texts": probe.texts, "probe.task": probe.task}
    paths = {key: resolve(folder, name) for key, name in named.items() if name}
    return _model_sources(config, folder) | paths | _named_files([_dump(check) for check in probe.task_checks], folder)


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [s for v in value.values() for s in _strings(v)]
    if isinstance(value, list):
        return [s for v in value for s in _strings(v)]
    return []


def _sample_sources(config: Config, folder: Path) -> dict[str, Path]:
    """The base model, the constitution, and the other models that are folders."""
    paths = _model_sources(config, folder)
    if config.sample.constitution:
        paths["sample.constitution"] = resolve(folder, config.sample.constitution)
    for name in config.sample.models:
        if resolve(folder, name).is_dir():
            paths[f"sample.models {name}"] = resolve(folder, name)
    return paths


def _judge_check_sources(config: Config, folder: Path) -> dict[str, Path]:
    """The labelled comparisons, and what the judges name."""
    if config.judge_check is None:
        return {}
    labelled = {"judge_check.labelled": resolve(folder, config.judge_check.labelled)}
    return labelled | _judge_sources("judge")(config, folder) | _judge_sources("eval")(config, folder)


def _sweep_sources(config: Config, folder: Path) -> dict[str, Path]:
    """What `fairlead sweep` wrote, if it ran."""
    del config
    files = [resolve(folder, f"sweep/{name}") for name in ("sweep.md", "frontier.svg")]
    return {f"sweep/{path.name}": path for path in files if path.is_file()}


_PREPARE = Stage(
    "prepare",
    "fairlead.preferences.prepare:run",
    sections=("data", "dev_prompts"),
    inputs=(),
    outputs=("sft.jsonl", "prompts.jsonl", "preferences.jsonl", "eval.jsonl", "dev.jsonl"),
    version=2,
    sources=_data_sources,
    headline="eval",
    summary="read the data, drop duplicates and leaks",
)
_DECIDE = Stage(
    "decide",
    "fairlead.decide.stage:run",
    sections=(
        "decide",
        "model",
        "answers",
        "eval.metrics",
        "eval.max_missing",
        "eval_judge",
        "gate.criteria",
        "data.similarity",
        "data_check",
    ),
    inputs=("prepare",),
    outputs=("decision.json", "decision.md", "answers.jsonl"),
    scratch=("candidates",),
    sources=_decide_sources,
    headline="verdict",
    summary="whether prompts, examples or documents are enough",
)
_SFT = Stage(
    "sft",
    "fairlead.training.sft:run",
    sections=("model", "lora", "sft"),
    inputs=("prepare",),
    guards=("decide",),
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
    scratch=("chunks",),
    sources=_sample_sources,
    headline="completions",
    summary="completions of the SFT model for every task prompt",
)
_JUDGE_CHECK = Stage(
    "judge_check",
    "fairlead.judges.check_stage:run",
    sections=("judge", "eval_judge", "judge_check"),
    inputs=(),
    outputs=("qualification.json",),
    version=2,
    sources=_judge_check_sources,
    headline="accuracy",
    summary="whether the judges can be trusted",
)
_JUDGE = Stage(
    "judge",
    "fairlead.preferences.judge:run",
    sections=("judge", "pairs.recipe", "pairs.judged_by", "pairs.max_missing"),
    inputs=("prepare", "sample"),
    guards=("judge_check",),
    outputs=("verdicts.jsonl", "comparisons.jsonl"),
    sources=_judge_sources("judge"),
    headline="verdicts",
    summary="the judge's verdicts on the completions",
)
_PAIRS = Stage(
    "pairs",
    "fairlead.preferences.pairs:run",
    sections=("pairs", "data", "data_check.drop"),
    inputs=("prepare", "sample", "judge"),
    outputs=("train.jsonl", "validation.jsonl"),
    headline="train",
    summary="preference triples, split",
)
_DATA_CHECK = Stage(
    "data_check",
    "fairlead.preferences.check_stage:run",
    sections=("data_check", "data.similarity"),
    inputs=("prepare", "pairs"),
    outputs=("data_check.json",),
    headline="status",
    summary="whether the pairs are fit to train on",
)
_DPO = Stage(
    "dpo",
    "fairlead.training.dpo:run",
    sections=("model", "lora", "dpo", "watch"),
    inputs=("sft", "pairs", "judge_check"),
    guards=("decide", "data_check"),
    outputs=("model",),
    scratch=("checkpoints",),
    version=2,
    sources=_dpo_sources,
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
    sections=("eval", "eval_judge", "judge"),
    inputs=("prepare", "answers"),
    guards=("judge_check",),
    outputs=("comparison.json", "scores.jsonl", "verdicts.jsonl"),
    version=3,
    sources=_judge_sources("eval"),
    headline="win_rate",
    summary="metrics, scores and win rates with error bars",
)
_PROBE = Stage(
    "probe",
    "fairlead.evaluation.probe:run",
    sections=("model", "probe"),
    inputs=("prepare", "sft", "pairs", "dpo"),
    outputs=("probe.json",),
    sources=_probe_sources,
    headline="implicit_reward_accuracy",
    summary="forgetting, drift from the reference, the implicit reward",
)
_GATE = Stage(
    "gate",
    "fairlead.release.gate:run",
    sections=("gate", "gate_criteria", "data", "decide.waive"),
    inputs=("prepare", "sft", "pairs", "data_check", "dpo", "answers", "eval", "probe"),
    outputs=("gate.json",),
    version=3,
    headline="status",
    summary="the criteria that a release must meet",
)
_REPORT = Stage(
    "report",
    "fairlead.release.report:run",
    sections=("report", "name"),
    inputs=(
        "prepare",
        "decide",
        "sft",
        "sample",
        "judge",
        "pairs",
        "data_check",
        "dpo",
        "answers",
        "eval",
        "probe",
        "gate",
    ),
    outputs=("report.md", "report.json"),
    version=2,
    sources=_sweep_sources,
    headline="status",
    summary="the table, the samples and the lineage",
)

_ALL = (
    _PREPARE,
    _DECIDE,
    _JUDGE_CHECK,
    _SFT,
    _SAMPLE,
    _JUDGE,
    _PAIRS,
    _DATA_CHECK,
    _DPO,
    _ANSWERS,
    _EVAL,
    _PROBE,
    _GATE,
    _REPORT,
)


def stages_of(config: Config) -> tuple[Stage, ...]:
    """The stages of a project in the order they run; those that the config switches off are absent."""
    absent: set[str] = set()
    if config.sft is None:
        absent.add("sft")
    if not config.data.prompts:
        absent |= {"sample", "judge"}
    if config.judge_check is None:
        absent.add("judge_check")
    if config.probe is None:
        absent.add("probe")
    return tuple(stage for stage in _ALL if stage.name not in absent)
