"""One comment on a pull request of GitHub or a merge request of GitLab, replaced by every later run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2

from fairlead.errors import ConfigError, FairleadError
from fairlead.escape import shorten

MARK = "<!-- fairlead-gate -->"  # the comment of an earlier run is found by it
MAX_CHARS = 60_000  # GitHub takes 65,536
_PAGES = 30  # of 100 comments each
_PULL_REQUEST = re.compile(r"refs/pull/(\d+)/")


class CommentError(FairleadError):
    """The comment could not be written."""


@dataclass(frozen=True)
class Thread:
    """The comments of a pull or merge request.

    Attributes:
        comments: address of all comments.
        comment: address of one, followed by its number.
        replace: the HTTP method that replaces a comment.
    """

    comments: str
    comment: str
    replace: str
    headers: Mapping[str, str]


def thread_of(environment: Mapping[str, str]) -> Thread:
    """The thread of the pull or merge request that the CI job in this environment runs for.

    Raises:
        ConfigError: if it runs for none, or has no token.
    """
    if environment.get("GITLAB_CI"):
        return _gitlab(environment)
    if environment.get("GITHUB_ACTIONS"):
        return _github(environment)
    raise ConfigError("runs in a job of GitHub Actions or GitLab CI only", where="fairlead ci comment")


def write_comment(thread: Thread, text: str) -> str:
    """Writes the comment, in the place of that of an earlier run, and returns "written" or "replaced".

    Raises:
        CommentError: if the service refuses or cannot be reached.
    """
    body = f"{MARK}\n{text}"
    if len(body) > MAX_CHARS:
        body = body[:MAX_CHARS] + "\n\n… cut here; the whole is among the job's artifacts."
    try:
        with httpx2.Client(headers=dict(thread.headers), timeout=30) as client:
            number = _earlier(client, thread)
            if number is None:
                client.post(thread.comments, json={"body": body}).raise_for_status()
                return "written"
            client.request(thread.replace, f"{thread.comment}/{number}", json={"body": body}).raise_for_status()
            return "replaced"
    except httpx2.HTTPStatusError as error:
        raise CommentError(
            f"the service answered {error.response.status_code}: {shorten(error.response.text, 160)}",
            where="fairlead ci comment",
            remedy="may the token write comments? see docs/release.md",
        ) from error
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        raise CommentError(f"the service gave no answer: {error}", where="fairlead ci comment") from error


def _earlier(client: httpx2.Client, thread: Thread) -> int | None:
    """The number of the comment that an earlier run wrote."""
    for page in range(1, _PAGES + 1):
        response = client.get(thread.comments, params={"per_page": 100, "page": page})
        comments: list[dict[str, Any]] = response.raise_for_status().json()
        for comment in comments:
            if str(comment.get("body", "")).startswith(MARK):
                return int(comment["id"])
        if len(comments) < 100:
            break
    return None


def _github(environment: Mapping[str, str]) -> Thread:
    match = _PULL_REQUEST.match(environment.get("GITHUB_REF", ""))
    if match is None:
        raise ConfigError("this job runs for no pull request", where="GITHUB_REF")
    issues = f"{environment['GITHUB_API_URL']}/repos/{environment['GITHUB_REPOSITORY']}/issues"
    token = _token(environment, "GITHUB_TOKEN")
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/vnd.github+json"}
    return Thread(f"{issues}/{match[1]}/comments", f"{issues}/comments", "PATCH", headers)


def _gitlab(environment: Mapping[str, str]) -> Thread:
    request = environment.get("CI_MERGE_REQUEST_IID", "")
    if not request:
        raise ConfigError("this job runs for no merge request", where="CI_MERGE_REQUEST_IID")
    project = f"{environment['CI_API_V4_URL']}/projects/{environment['CI_PROJECT_ID']}"
    notes = f"{project}/merge_requests/{request}/notes"
    return Thread(notes, notes, "PUT", {"PRIVATE-TOKEN": _token(environment, "FAIRLEAD_COMMENT_TOKEN")})


def _token(environment: Mapping[str, str], variable: str) -> str:
    token = environment.get(variable, "")
    if not token:
        raise ConfigError("is not set", where=variable, remedy="give the job a token that may write comments")
    return token
