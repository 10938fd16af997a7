"""Makes the demo's project folder: data, base model and `fairlead.yaml`. The ordinary stages then run on it."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from fairlead.config.project import CONFIG_NAME
from fairlead.config.reference.editor import write_config
from fairlead.demo.base_model import train_base
from fairlead.demo.task import write_task
from fairlead.errors import ConfigError
from fairlead.files import read_text, write_atomic
from fairlead.progress import Progress

_SEED_LINE = "seed: "


def make_project(folder: Path, *, seed: int, progress: Progress) -> None:
    """Makes whatever is missing, so that a killed run continues where it stopped.

    Raises:
        ConfigError: if the folder holds another project, or the demo with another seed.
    """
    folder = Path(folder)
    config = folder / CONFIG_NAME
    if config.exists():
        if f"\n{_SEED_LINE}{seed}\n" not in read_text(config) or not (folder / "base-model").is_dir():
            raise ConfigError(
                f"already exists and is not the demo with seed {seed}",
                where=str(config),
                remedy="choose another folder: fairlead demo --out OTHER",
            )
        return
    progress.line("[demo] writing incident reports, then training a small base model on a noisy corpus of them")
    data = folder / "data"
    if not (data / "corpus.jsonl").exists():  # written last
        write_task(data, seed)
    with progress.task("demo", "base model", 1) as bar:
        train_base(
            data / "corpus.jsonl",
            folder / "base-model",
            seed=seed,
            progress=lambda done, total: bar.update(done, total=total),
        )
    demo_files = resources.files("fairlead.demo")
    write_atomic(folder / "documents" / "guideline.md", demo_files.joinpath("guideline.md").read_text(encoding="utf-8"))
    template = demo_files.joinpath("fairlead.yaml").read_text(encoding="utf-8")
    write_config(folder, template.replace(f"{_SEED_LINE}0\n", f"{_SEED_LINE}{seed}\n", 1))
