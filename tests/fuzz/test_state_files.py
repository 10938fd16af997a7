"""State files of a project that were altered: each command is done, or refuses in one line that names the file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead import Project
from fairlead.decide.permission import read_decision
from fairlead.documents.base import Document
from fairlead.errors import ArtifactError, DataError, FairleadError
from tests.support.fuzz import bounded

CONTENTS = (
    b"", b"[]", b"{}", b"null", b"5", b'"x"', b"{", b"\xff\xfe", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}",
    b"a: [", b"- 1", b"a: !!python/object:os.system x", b"prepare: 5", b"prepare: {artifact: 5}", b"prepare: [1]",
)  # fmt: skip
VALUES = (None, True, 5, -1, 1.5, "x", "../..", [], {}, [1], {"a": {}}, "\x1b[2J", 10**400)


@pytest.fixture(scope="module")
def folder(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished project of this file's own."""
    return Path(shutil.copytree(finished, tmp_path_factory.mktemp("state") / "project"))


def state_files(folder: Path) -> list[Path]:
    """The lock file, the remembered hashes, and every manifest and decision."""
    paths = [folder / "fairlead.lock", *folder.glob(".fairlead/*.json"), *folder.glob("artifacts/*/*/manifest.json")]
    return [*paths, *folder.glob("artifacts/decide/*/decision.json")]


def altered(draw: st.DrawFn, content: bytes) -> bytes:
    """Another content, or the same JSON with one value in it replaced or removed."""
    if draw(st.booleans()):
        return draw(st.sampled_from(CONTENTS))
    try:
        data: Any = json.loads(content)
    except ValueError:  # the lock file is YAML
        at = draw(st.integers(0, len(content)))
        return content[:at] + draw(st.sampled_from(CONTENTS)) + content[at + draw(st.integers(0, 40)) :]
    value = data
    while isinstance(value, dict) and value:
        key = draw(st.sampled_from(sorted(value)))
        if not isinstance(value[key], dict) or draw(st.booleans()):
            if draw(st.booleans()):
                del value[key]
            else:
                value[key] = draw(st.sampled_from(VALUES))
            break
        value = value[key]
    return json.dumps(data).encode()


def tell(act: Any) -> None:
    """Runs something; it may refuse, in one line that can be printed."""
    try:
        act()
    except FairleadError as error:
        line = str(error)
        assert "\n" not in line
        assert line.isprintable()
        assert len(line) < 1500, line


@bounded(30)
@given(st.data())
def test_an_altered_state_file_is_read_or_refused_in_one_line(folder: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(state_files(folder)))
    content = path.read_bytes()
    path.write_bytes(altered(data.draw, content))
    try:
        tell(lambda: Project(folder).status())
        tell(lambda: read_decision(Project(folder).artifact("decide")))
        tell(lambda: Project(folder).last("gate").verify())
    finally:
        path.write_bytes(content)


@bounded(100)
@given(content=st.sampled_from(CONTENTS))
def test_a_document_of_another_form_is_one_line_that_names_the_file(tmp_path: Path, content: bytes) -> None:
    class Figures(Document):
        value: float
        names: dict[str, list[int]]

    (tmp_path / "figures.json").write_bytes(content)
    with pytest.raises((DataError, ArtifactError), match=r"figures\.json") as caught:
        Figures.read(tmp_path / "figures.json")
    assert str(caught.value).isprintable()
