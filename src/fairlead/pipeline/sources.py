"""Files outside the project's artifacts that each stage reads, by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fairlead.config.project import Config
from fairlead.pipeline.stage import dump, resolve


def data_sources(config: Config, folder: Path) -> dict[str, Path]:
    """The data files; a name that is no path is a hub id, whose identity is its name in the config."""
    data = config.data
    names = ("sft", "prompts", "eval", "dev", "preferences")
    found = {name: getattr(data, name) for name in names}
    paths = {f"data.{key}": resolve(folder, name) for key, name in found.items() if name}
    is_hub_id = "data.preferences" in paths and not paths["data.preferences"].exists()
    if is_hub_id:
        del paths["data.preferences"]
    return paths


def model_sources(config: Config, folder: Path) -> dict[str, Path]:
    paths: dict[str, Path] = {}
    base = resolve(folder, config.model.name)
    if base.is_dir():
        paths["model"] = base
    if config.model.chat_template:
        paths["model.chat_template"] = resolve(folder, config.model.chat_template)
    return paths


def dpo_sources(config: Config, folder: Path) -> dict[str, Path]:
    named = {"dpo.label_checks": config.dpo.label_checks, "watch.general": config.watch.general}
    files = {key: resolve(folder, name) for key, name in named.items() if name}
    return model_sources(config, folder) | files


def judge_sources(section: str) -> Callable[[Config, Path], dict[str, Path]]:
    """Files that a judge or the checks name: functions, schemas, prompt templates."""

    def sources(config: Config, folder: Path) -> dict[str, Path]:
        values = [config.eval.metrics, config.eval_judge] if section == "eval" else [config.judge]
        return _named_files([dump(v) if not isinstance(v, list) else [dump(x) for x in v] for v in values], folder)

    return sources


def _named_files(values: Any, folder: Path) -> dict[str, Path]:
    """The files that strings anywhere in `values` name."""
    found: dict[str, Path] = {}
    for text in _strings(values):
        path = resolve(folder, text.split(":")[0])
        if len(text) < 300 and "\n" not in text and path.suffix and path.is_file():
            found[text] = path
    return found


def decide_sources(config: Config, folder: Path) -> dict[str, Path]:
    """The base model, the checks' files, the documents, and the other models that are folders."""
    paths = {**model_sources(config, folder), **judge_sources("eval")(config, folder)}
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


def probe_sources(config: Config, folder: Path) -> dict[str, Path]:
    """The models' files, and the texts and rows that the probe reads."""
    probe = config.probe
    if probe is None:
        return {}
    named = {"probe.texts": probe.texts, "probe.task": probe.task}
    paths = {key: resolve(folder, name) for key, name in named.items() if name}
    return model_sources(config, folder) | paths | _named_files([dump(check) for check in probe.task_checks], folder)


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [s for v in value.values() for s in _strings(v)]
    if isinstance(value, list):
        return [s for v in value for s in _strings(v)]
    return []


def sample_sources(config: Config, folder: Path) -> dict[str, Path]:
    """The base model, the constitution, and the other models that are folders."""
    paths = model_sources(config, folder)
    if config.sample.constitution:
        paths["sample.constitution"] = resolve(folder, config.sample.constitution)
    for name in config.sample.models:
        if resolve(folder, name).is_dir():
            paths[f"sample.models {name}"] = resolve(folder, name)
    return paths


def judge_check_sources(config: Config, folder: Path) -> dict[str, Path]:
    """The labelled comparisons, and what the judges name."""
    if config.judge_check is None:
        return {}
    labelled = {"judge_check.labelled": resolve(folder, config.judge_check.labelled)}
    return labelled | judge_sources("judge")(config, folder) | judge_sources("eval")(config, folder)


def sweep_sources(config: Config, folder: Path) -> dict[str, Path]:
    """What `fairlead sweep` wrote, if it ran."""
    del config
    files = [resolve(folder, f"sweep/{name}") for name in ("sweep.md", "frontier.svg")]
    return {f"sweep/{path.name}": path for path in files if path.is_file()}
