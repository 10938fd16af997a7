"""Writes the CI files of a project into the repository that holds it, and the lines that keep weights out of git."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from fairlead.config.project import Config, load_config
from fairlead.errors import ConfigError
from fairlead.files import read_text, write_atomic

Service = Literal["github", "gitlab"]

FILES: dict[Service, str] = {"github": ".github/workflows/fairlead-gate.yml", "gitlab": ".gitlab-ci.yml"}


def write_ci(folder: Path, services: tuple[Service, ...] = ("github", "gitlab")) -> list[Path]:
    """Writes the workflow of each service at the top of the repository, and adds to the project's `.gitignore`.

    Args:
        folder: the project folder.

    Returns:
        The files that were written.

    Raises:
        ConfigError: if there is no valid project in the folder, or one of the workflows is there already.
    """
    config = load_config(folder)
    root = repository_of(folder)
    paths = {service: root / FILES[service] for service in services}
    present = next((path for path in paths.values() if path.exists()), None)
    if present is not None:
        absent = [service for service in FILES if not (root / FILES[service]).exists()]
        other = f", or write only the other file: fairlead ci init --only {absent[0]}" if absent else ""
        raise ConfigError("is there already and is not written over", where=str(present), remedy=f"move it away{other}")
    project = folder.resolve().relative_to(root).as_posix()
    for service, path in paths.items():
        write_atomic(path, workflow(service, project))
    lines = [*_template("gitignore.txt").splitlines(), *_model_folders(config, folder.resolve())]
    return [*paths.values(), *_add_lines(folder / ".gitignore", lines)]


def workflow(service: Service, project: str) -> str:
    """The text of a workflow.

    Args:
        project: path of the project folder from the top of the repository.
    """
    text = _template(f"{service}.yaml")
    before, _, after = text.partition("{gate}")
    margin = before.rpartition("\n")[2]
    gate = textwrap.indent(_template("gate.txt").rstrip(), margin).removeprefix(margin)
    values = {"{project}": json.dumps(project), "{requirement}": json.dumps(f"fairlead=={version('fairlead')}")}
    text = before + gate + after
    for name, value in values.items():
        text = text.replace(name, value, 1)
    return text


def repository_of(folder: Path) -> Path:
    """The top of the git repository that a folder is in; the folder itself where it is in none."""
    resolved = folder.resolve()
    return next((parent for parent in (resolved, *resolved.parents) if (parent / ".git").exists()), resolved)


def _model_folders(config: Config, folder: Path) -> list[str]:
    """The model folders of a project, as git ignores them.

    They stay out whole: without its weights a folder would have another hash, while the hash of one that is absent is
    taken from `fairlead.lock`.
    """
    models = [path for path in config.named_paths() if path.names in ("model", "weights")]
    resolved = [(folder / path.text).resolve() for path in models]
    inside = [path for path in resolved if path.is_dir() and folder in path.parents]
    return [f"/{path.relative_to(folder).as_posix()}/" for path in dict.fromkeys(inside)]


def _add_lines(path: Path, lines: Sequence[str]) -> list[Path]:
    """Adds the lines that a file lacks; nothing if it has all."""
    present = read_text(path) if path.exists() else ""
    missing = [line for line in lines if line not in present.splitlines()]
    if not missing:
        return []
    write_atomic(path, present + ("\n" if present and not present.endswith("\n") else "") + "\n".join(missing) + "\n")
    return [path]


def _template(name: str) -> str:
    return (resources.files("fairlead.release.ci") / name).read_text(encoding="utf-8")
