"""A released folder holds what was released and nothing else, and says what it is not."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from fairlead import Project
from fairlead.config.release import ReleaseSettings
from fairlead.errors import ArtifactError
from fairlead.files import read_json, write_json
from fairlead.release.checksums import verify, write_checksums
from fairlead.release.export import ReleaseError, release


@pytest.fixture
def folder(project: Project, tmp_path: Path) -> Path:
    release(project, "v1", str(tmp_path / "out"), settings=ReleaseSettings())
    return tmp_path / "out" / "v1"


@pytest.mark.parametrize("content", [{}, [], None, {"weights": []}])
def test_evidence_of_another_form_is_one_line(folder: Path, content: Any) -> None:
    write_json(folder / "evidence.json", content)
    write_checksums(folder)
    with pytest.raises(ArtifactError, match=r"evidence\.json: .* does not fit") as raised:
        verify(folder)
    assert "\n" not in str(raised.value)


def test_weights_that_the_evidence_does_not_name_are_found(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    write_checksums(folder)
    with pytest.raises(ArtifactError, match=r"pytorch_model\.bin holds weights that evidence\.json does not list"):
        verify(folder)


def test_links_pipes_and_empty_folders_are_found(folder: Path) -> None:
    (folder / "link").symlink_to("/etc/hosts")
    os.mkfifo(folder / "pipe")
    (folder / "empty").mkdir()
    with pytest.raises(ArtifactError) as raised:
        verify(folder)
    for name in ("link", "pipe", "empty"):
        assert f"{name} is not a regular file and was not released" in str(raised.value)
    with pytest.raises(ArtifactError, match="is not a regular file"):
        write_checksums(folder)


def test_every_released_file_can_be_read_by_all(folder: Path) -> None:
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in folder.rglob("*") if path.is_file()}
    assert set(modes.values()) == {"0o644"}, modes


def test_a_link_in_the_trained_model_is_refused(project: Project, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "code.pkl").write_bytes(b"\x80\x04.")
    (project.artifact("dpo").path / "model" / "more").symlink_to(outside)
    with pytest.raises(ReleaseError, match=r"model/more is not in the manifest"):
        release(project, "v1", str(tmp_path / "out"), settings=ReleaseSettings())
    with pytest.raises(ArtifactError, match=r"model/more is not a regular file"):
        release(project, "v1", str(tmp_path / "out"), settings=ReleaseSettings(), despite="to see it refused")
    assert not (tmp_path / "out" / "v1").exists()


def altered_in_place(path: Path) -> None:
    """Changes a byte and keeps size and times."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(("file", "merged"), [("model/model.safetensors", True), ("eval.jsonl", False)])
def test_base_weights_or_data_altered_under_the_same_size_and_time_are_found(
    project: Project, tmp_path: Path, file: str, merged: bool
) -> None:
    release(project, "v0", str(tmp_path / "out"), merged=merged, settings=ReleaseSettings())
    altered_in_place(project.folder / file)
    with pytest.raises(ReleaseError, match="config or data have changed"):
        release(project, "v1", str(tmp_path / "out"), merged=merged, settings=ReleaseSettings())


def test_an_edited_hash_cache_is_not_believed(project: Project, tmp_path: Path) -> None:
    project.status()
    cache = project.folder / ".fairlead" / "hashes.json"
    before = read_json(cache)
    weights = project.folder / "model" / "model.safetensors"
    altered_in_place(weights)
    assert str(weights.resolve()) in before, "its old hash is remembered under the same size and time"
    with pytest.raises(ReleaseError, match="config or data have changed"):
        release(project, "v1", str(tmp_path / "out"), merged=True, settings=ReleaseSettings())


def test_the_evidence_names_the_base_and_the_precision(project: Project, folder: Path) -> None:
    evidence = read_json(folder / "evidence.json")
    assert evidence["base"] == project.artifact("dpo").manifest.inputs["model.name"]
    assert evidence["dtype"] in ("float32", "bfloat16")


def test_a_copied_release_is_still_whole(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    assert verify(tmp_path / "copy") == verify(folder)
