"""Upload to a hub, through huggingface_hub and a local server that speaks its API."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fairlead import Project
from fairlead.errors import ConfigError
from fairlead.release.hub import is_hub, repo_id
from tests.support.hub_server import hub

SCRIPT = """
import sys
from pathlib import Path
from fairlead.errors import FairleadError
from fairlead.release.hub import refuse_existing, upload
try:
    refuse_existing(sys.argv[2], sys.argv[3])
    print(upload(Path(sys.argv[1]), sys.argv[2], sys.argv[3], private=True))
except FairleadError as error:
    print("refused:", error)
"""


def upload(folder: Path, repo: str, version: str, address: str) -> str:
    """In a process of its own: the hub's address is read once, at import."""
    return _python("-c", SCRIPT, str(folder), repo, version, address=address).stdout.strip()


def _python(*arguments: str, address: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_secret"}
    env |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    return subprocess.run(
        [sys.executable, *arguments], env=env, capture_output=True, text=True, timeout=120, check=True
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# one\n")
    (tmp_path / "adapter_model.safetensors").write_bytes(bytes(range(256)))
    return tmp_path


def test_a_version_is_uploaded_whole_tagged_and_never_written_twice(folder: Path) -> None:
    with hub() as there:
        location = upload(folder, "org/triage", "v0.1.0", there.address)
        assert location == f"{there.address}/org/triage/tree/v0.1.0"
        assert there.tags["org/triage"]["v0.1.0"]["adapter_model.safetensors"] == bytes(range(256))
        (folder / "README.md").write_text("---\nlicense: mit\n---\n# two\n")
        assert "already has v0.1.0; a version is never written twice" in upload(
            folder, "org/triage", "v0.1.0", there.address
        )
        (folder / "adapter_model.safetensors").rename(folder / "model.safetensors")
        upload(folder, "org/triage", "v0.2.0", there.address)
        tags = there.tags["org/triage"]
        assert b"# one" in tags["v0.1.0"]["README.md"]
        assert b"# two" in tags["v0.2.0"]["README.md"]
        assert "adapter_model.safetensors" not in tags["v0.2.0"], "files of an older version do not linger"
        assert there.tokens - {""} == {"Bearer hf_secret"}
        assert there.visibility == {"org/triage": "private"}


def test_a_hub_that_refuses_is_one_clear_line_and_leaves_no_version(folder: Path) -> None:
    with hub() as there:
        there.refuses_commits = True
        location = upload(folder, "org/triage", "v0.1.0", there.address)
        assert location.startswith("refused: org/triage: the hub refused")
        assert "hf_secret" not in location
        assert there.tags["org/triage"] == {}


def test_a_hub_that_does_not_answer_is_one_clear_line(folder: Path) -> None:
    with hub() as there:
        address = there.address
    location = upload(folder, "org/triage", "v0.1.0", address)
    assert location.startswith("refused: org/triage: the hub refused or did not answer")
    assert "HF_ENDPOINT" in location


def test_an_address_that_names_no_repository_is_refused() -> None:
    assert is_hub("hf://org/name")
    assert not is_hub("releases")
    assert repo_id("hf://org/name/") == "org/name"
    for wrong in ("hf://org", "hf://", "hf://a/b/c", "hf://org/-name", "hf://org/a..b", "hf://org/" + "x" * 99):
        with pytest.raises(ConfigError, match="is not the name of a repository"):
            repo_id(wrong)


@pytest.mark.slow
def test_the_command_releases_to_the_hub_as_the_settings_say(project: Project) -> None:
    config = project.folder / "fairlead.yaml"
    config.write_text(config.read_text(encoding="utf-8") + "\nrelease:\n  private: false\n", encoding="utf-8")
    with hub() as there:
        command = (
            "-c",
            "from fairlead.cli.main import main; main()",
            "release",
            "v0.1.0",
            "--to",
            "hf://org/triage",
            "-C",
            str(project.folder),
        )
        done = _python(*command, address=there.address)
        assert there.visibility == {"org/triage": "public"}
        assert {"README.md", "reflection.md", "gate.json"} <= set(there.tags["org/triage"]["v0.1.0"])
        assert f"released dpo as v0.1.0: {there.address}/org/triage/tree/v0.1.0" in done.stdout
        assert "warning: " in done.stderr, "the base lies on this machine only"
