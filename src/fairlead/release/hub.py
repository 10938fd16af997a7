"""Upload to a Hugging Face hub through huggingface_hub: one commit, one tag, never over a tag that exists.

`HF_ENDPOINT` names another hub, `HF_TOKEN` holds the key; neither is written anywhere.
"""

from __future__ import annotations

import re
from pathlib import Path

import httpx2  # what huggingface_hub speaks; it raises connection errors as they are
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from fairlead.errors import ArtifactError, ConfigError

_SCHEME = "hf://"
_REPO = re.compile(r"[\w.-]+/[\w.-]+")
_UNREACHABLE = (HfHubHTTPError, httpx2.HTTPError, OSError)


def is_hub(to: str) -> bool:
    return to.startswith(_SCHEME)


def repo_id(to: str) -> str:
    """organisation/name of hf://organisation/name."""
    repo = to.removeprefix(_SCHEME).strip("/")
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise _no_repository(to) from error
    if not _REPO.fullmatch(repo):
        raise _no_repository(to)
    return repo


def _no_repository(to: str) -> ConfigError:
    return ConfigError(f"{to!r} names no repository", remedy="give hf://organisation/name, or a folder")


def refuse_existing(repo: str, version: str) -> None:
    """Refuses a version that the repository has already.

    Raises:
        ArtifactError: if it has it, or the hub does not answer.
    """
    try:
        refs = HfApi().list_repo_refs(repo)
    except RepositoryNotFoundError:
        return
    except _UNREACHABLE as error:
        raise _unreachable(repo, error) from error
    if any(tag.name == version for tag in refs.tags):
        raise ArtifactError(
            f"has {version} already; a version is never written twice", where=repo, remedy="choose the next version"
        )


def upload(folder: Path, repo: str, version: str, *, private: bool) -> str:
    """Uploads `folder` as one commit, tags it, and returns its address.

    Args:
        private: whether a repository that has to be made is private.

    Raises:
        ArtifactError: if the hub refuses or does not answer; the tag comes last, so a version is whole or absent.
    """
    api = HfApi()
    try:
        api.create_repo(repo, exist_ok=True, private=private)
        commit = api.upload_folder(
            repo_id=repo, folder_path=folder, commit_message=f"Release {version}", delete_patterns="*"
        )
        api.create_tag(repo, tag=version, revision=commit.oid, exist_ok=False)
    except _UNREACHABLE as error:
        raise _unreachable(repo, error) from error
    return f"{api.endpoint}/{repo}/tree/{version}"


def _unreachable(repo: str, error: Exception) -> ArtifactError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ArtifactError(
        f"the hub refused or did not answer: {lines[0][:200] if lines else type(error).__name__}",
        where=repo,
        remedy="check the network, HF_ENDPOINT and HF_TOKEN, then run the same command again",
    )
