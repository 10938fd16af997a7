"""One finished project for all tests of this room; each test works on a copy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.conftest import tiny_config, write_config

from fairlead import Project
from fairlead.files import read_json, write_json


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A project on random weights that ran to its report, with a gate that passes."""
    folder = tmp_path_factory.mktemp("finished") / "project"
    folder.mkdir()
    shutil.copytree(tiny_model, folder / "model")
    # As many repositories have it; the policy that is trained and evaluated knows nothing of it.
    rules = read_json(folder / "model" / "generation_config.json")
    write_json(folder / "model" / "generation_config.json", {**rules, "repetition_penalty": 1.3})
    for name, count in (("sft", 16), ("prompts", 16), ("eval", 8)):
        extra = {"answer": "severity: high"} if name == "sft" else {}
        rows = [json.dumps({"prompt": f"{name} report number {n} of the disk", **extra}) for n in range(count)]
        (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "checks.py").write_text("def short(answer, gold):\n    return 1 / (1 + len(answer))\n", encoding="utf-8")
    write_config(folder, tiny_config())
    Project(folder).run()
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Project:
    shutil.copytree(finished, tmp_path / "project")
    return Project(tmp_path / "project")


def flip(path: Path, at: int = -2) -> None:
    """Turns one bit of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
