"""Makes the demo's project folder: data, base model and `fairlead.yaml`. The ordinary stages then run on it."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from fairlead.config.loading.yaml_file import read_yaml
from fairlead.config.project import CONFIG_NAME
from fairlead.config.reference.editor import write_config
from fairlead.demo.pretrained import config_text, model_name
from fairlead.demo.task import write_task
from fairlead.errors import ConfigError
from fairlead.files import write_atomic
from fairlead.progress import Progress

NAME = "incident triage"
_OWN_MODEL = "base-model"
_SEED_LINE = "seed: "


def make_project(folder: Path, *, seed: int, progress: Progress, model: str | None = None) -> None:
    """Makes whatever is missing, so that a killed run continues where it stopped.

    Args:
        model: a pretrained model as `--model` names it; None trains a small one on a corpus of the task.

    Raises:
        ConfigError: if the folder holds another project, or the demo with another seed or model.
        ModelError: if the model cannot be a base.
    """
    folder = Path(folder)
    name = _OWN_MODEL if model is None else model_name(model)
    if (folder / CONFIG_NAME).exists():
        _demand_same(folder / CONFIG_NAME, seed, name)
        return
    if model is None:
        progress.line("[demo] writing incident reports, then training a small base model on a noisy corpus of them")
        _write_small(folder, seed, progress)
    else:
        progress.line(f"[demo] writing incident reports for {model}")
        write_task(folder / "data", seed, sft=400, prompts=160, eval=150, dev=50, corpus=0)
    demo_files = resources.files("fairlead.demo")
    write_atomic(folder / "documents" / "guideline.md", demo_files.joinpath("guideline.md").read_text(encoding="utf-8"))
    template = demo_files.joinpath("fairlead.yaml").read_text(encoding="utf-8")
    template = template if model is None else config_text(template, name)
    write_config(folder, template.replace(f"{_SEED_LINE}0\n", f"{_SEED_LINE}{seed}\n", 1))


def _demand_same(config: Path, seed: int, model: str) -> None:
    """Refuses a folder that holds another project, by the lines of its `fairlead.yaml` that the demo writes."""
    found = read_yaml(config)
    section = found.get("model")
    holds = section.get("name") if isinstance(section, dict) else None
    remedy = "choose another folder: fairlead demo --out OTHER"
    lacks_model = holds == _OWN_MODEL and not (config.parent / _OWN_MODEL).is_dir()
    if found.get("name") != NAME or found.get("seed") != seed or lacks_model:
        raise ConfigError(f"already exists and is not the demo with seed {seed}", where=str(config), remedy=remedy)
    if holds != model:
        raise ConfigError(f"is the demo with the model {holds}, not with {model}", where=str(config), remedy=remedy)


def _write_small(folder: Path, seed: int, progress: Progress) -> None:
    """The data of the demo, and a base model that is trained on a part of them."""
    from fairlead.demo.base_model import train_base  # loads torch

    data = folder / "data"
    if not (data / "corpus.jsonl").exists():  # written last
        write_task(data, seed)
    with progress.task("demo", "base model", 1) as bar:
        train_base(
            data / "corpus.jsonl",
            folder / _OWN_MODEL,
            seed=seed,
            progress=lambda done, total: bar.update(done, total=total),
        )
