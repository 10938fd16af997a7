"""Uploads a release to a Hugging Face hub as one commit with one tag; an existing tag is never moved.

`HF_ENDPOINT` names another hub, `HF_TOKEN` holds the token; neither is stored.
"""

from __future__ import annotations

import re
from pathlib import Path

import httpx2  # huggingface_hub's HTTP client, whose connection errors it does not wrap
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
    """The `organisation/name` in `hf://organisation/name`."""
    repo = to.removeprefix(_SCHEME).strip("/")
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise _no_repository(to) from error
    if not _REPO.fullmatch(repo):
        raise _no_repository(to)
    return repo


def _no_repository(to: str) -> ConfigError:
    return ConfigError(f"{to!r} is not the name of a repository", remedy="give hf://organisation/name, or a folder")


def refuse_existing(repo: str, version: str) -> None:
    """Refuses a version that is already a tag of the repository.

    Raises:
        ArtifactError: if it is, or if the hub does not answer.
    """
    try:
        refs = HfApi().list_repo_refs(repo)
    except RepositoryNotFoundError:
        return
    except _UNREACHABLE as error:
        raise _unreachable(repo, error) from error
    if any(tag.name == version for tag in refs.tags):
        raise ArtifactError(
            f"already has {version}; a version is never written twice", where=repo, remedy="choose the next version"
        )


def upload(folder: Path, repo: str, version: str, *, private: bool) -> str:
    """Uploads `folder` as one commit, tags it, and returns its address.

    The tag is made last, so that a version is either complete or absent.

    Args:
        private: whether a repository is private that this upload creates.

    Raises:
        ArtifactError: if the hub refuses or does not answer.
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
