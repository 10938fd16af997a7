"""Whatever happens to a released folder, verifying it says so in one line."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead import Project
from fairlead.config.release import ReleaseSettings
from fairlead.errors import ArtifactError, FairleadError
from fairlead.files import write_json
from fairlead.release.checksums import verify, write_checksums
from fairlead.release.export import release
from tests.support.fuzz import bounded

_NAMED_BY_THE_EVIDENCE = ("adapter_model.safetensors", "gate.json")


@pytest.fixture(scope="module")
def released(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("released")
    project = to / "project"
    shutil.copytree(finished, project)
    release(Project(project), "v1", str(to / "out"), settings=ReleaseSettings())
    return to / "out" / "v1"


def flip(path: Path, draw: st.DrawFn) -> None:
    content = bytearray(path.read_bytes())
    content[draw(st.integers(0, len(content) - 1))] ^= 1 << draw(st.integers(0, 7))
    path.write_bytes(content)


def cut(path: Path, draw: st.DrawFn) -> None:
    size = path.stat().st_size
    os.truncate(path, draw(st.integers(0, size - 1)))


def replace_by_link(path: Path, draw: st.DrawFn) -> None:
    path.unlink()
    path.symlink_to(draw(st.sampled_from(["/etc/hosts", "README.md", "nowhere"])))


def replace_by_text(path: Path, draw: st.DrawFn) -> None:
    before = path.read_text(encoding="utf-8", errors="replace")
    text = draw(st.text(max_size=80).filter(lambda text: text != before))
    path.write_text(text, encoding="utf-8", errors="replace")


def rename(path: Path, draw: st.DrawFn) -> None:
    path.rename(path.with_name(f"{path.name}.{draw(st.sampled_from(['bak', 'pkl', '1']))}"))


def put_beside(path: Path, draw: st.DrawFn) -> None:
    name = draw(st.sampled_from(["pytorch_model.bin", "model/x.pkl", "modeling.py", "more/deep/file"]))
    target = path.parent / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(draw(st.binary(max_size=20)))


SCALARS = st.none() | st.booleans() | st.integers() | st.text()
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
CHANGES: list[Callable[[Path, st.DrawFn], None]] = [
    *(flip, cut, replace_by_link, replace_by_text, rename, put_beside),
    lambda path, draw: path.unlink(),
]


@bounded()
@given(data=st.data())
def test_a_changed_release_is_refused_in_one_line(released: Path, data: st.DataObject) -> None:
    copy = released.parent / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(released, copy)
    name = data.draw(st.sampled_from(sorted(path.name for path in copy.iterdir())))
    change = data.draw(st.sampled_from(CHANGES))
    change(copy / name, data.draw)
    error = None
    sealed_anew = data.draw(st.booleans()) and name in _NAMED_BY_THE_EVIDENCE and change is not put_beside
    try:
        if sealed_anew:
            write_checksums(copy)  # as somebody would who wants the change to pass
        verify(copy)
    except FairleadError as raised:
        error = raised
    assert error is not None
    assert "\n" not in str(error)


@bounded(20)
@given(content=JSON)
def test_evidence_of_any_other_form_is_one_line(released: Path, content: Any) -> None:
    copy = released.parent / "evidence"
    if not copy.exists():
        shutil.copytree(released, copy)
    write_json(copy / "evidence.json", content)
    write_checksums(copy)
    with pytest.raises(ArtifactError, match="does not fit") as raised:
        verify(copy)
    assert "\n" not in str(raised.value)
