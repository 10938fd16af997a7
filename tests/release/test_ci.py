"""The gate in CI: what `fairlead ci init` writes runs in a clone without weights, and comments once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from fairlead.errors import ConfigError
from fairlead.release.ci.comment import MARK, MAX_CHARS, CommentError, thread_of, write_comment
from fairlead.release.ci.write import FILES, Service, repository_of, workflow, write_ci
from tests.support.projects import REPO, tiny_config, write_config

GITHUB = {"GITHUB_ACTIONS": "true", "GITHUB_REPOSITORY": "org/repo", "GITHUB_TOKEN": "secret"}
GITLAB = {"GITLAB_CI": "true", "CI_PROJECT_ID": "7", "CI_MERGE_REQUEST_IID": "3", "FAIRLEAD_COMMENT_TOKEN": "secret"}


def git(folder: Path, *args: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main")
    subprocess.run(["git", *identity, *args], cwd=folder, check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def clone(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of a repository in which a finished project was committed after `fairlead ci init`."""
    root = tmp_path_factory.mktemp("ci")
    repository = root / "repository"
    shutil.copytree(finished, repository / "models" / "triage")
    git(root, "init", str(repository))
    write_ci(repository / "models" / "triage")
    git(repository, "add", "--all")
    git(repository, "commit", "--message", "evidence")
    git(root, "clone", str(repository), "clone")
    return root / "clone"


@pytest.fixture
def commands(tmp_path: Path) -> dict[str, str]:
    """An environment in which `fairlead` is the command of this checkout."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "fairlead"
    script.write_text(f"#!{sys.executable}\nfrom fairlead.cli.main import main\nmain()\n", encoding="utf-8")
    script.chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(REPO / "src"), "PROJECT": "models/triage"}


def run_step(name: str, clone: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-e", "-c", steps(clone)[name]],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


class Comments(BaseHTTPRequestHandler):
    """The comments of one pull request, as both services keep them."""

    comments: list[dict[str, Any]]
    requests: list[tuple[str, str]]

    def _answer(self, content: Any, status: int = 200) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _body(self) -> str:
        self.requests.append((self.command, urlsplit(self.path).path))
        return str(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["body"])

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        first = (int(query["page"][0]) - 1) * int(query["per_page"][0])
        self._answer(self.comments[first : first + int(query["per_page"][0])])

    def do_POST(self) -> None:
        if "secret" not in (self.headers.get("Authorization", "") + self.headers.get("PRIVATE-TOKEN", "")):
            self._answer({"message": "Resource not accessible"}, 403)
            return
        self.comments.append({"id": 1000 + len(self.comments), "body": self._body()})
        self._answer(self.comments[-1], 201)

    def _replace(self) -> None:
        number = int(urlsplit(self.path).path.rpartition("/")[2])
        comment = next(comment for comment in self.comments if comment["id"] == number)
        comment["body"] = self._body()
        self._answer(comment)

    def do_PATCH(self) -> None:
        self._replace()

    def do_PUT(self) -> None:
        self._replace()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def service() -> Iterator[tuple[str, type[Comments]]]:
    handler = type("Comments", (Comments,), {"comments": [], "requests": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", handler
        server.shutdown()
        thread.join()


def steps(clone: Path) -> dict[str, str]:
    """The shell of every named step of the GitHub workflow."""
    job = yaml.safe_load((clone / FILES["github"]).read_text(encoding="utf-8"))["jobs"]["gate"]
    return {step["name"]: step["run"] for step in job["steps"] if "run" in step}


def test_the_workflows_have_what_the_services_require(clone: Path) -> None:
    github = yaml.safe_load((clone / FILES["github"]).read_text(encoding="utf-8"))
    assert set(github) == {"name", True, "permissions", "jobs"}, "PyYAML reads `on` as true"
    job = github["jobs"]["gate"]
    assert job["runs-on"] == "ubuntu-latest"
    assert job["env"]["PROJECT"] == "models/triage"
    assert all(("uses" in step) != ("run" in step) for step in job["steps"])
    assert [step["env"] for step in job["steps"] if "env" in step] == [{"GITHUB_TOKEN": "${{ github.token }}"}]
    gitlab = yaml.safe_load((clone / FILES["gitlab"]).read_text(encoding="utf-8"))["fairlead-gate"]
    assert gitlab["image"]
    assert gitlab["variables"]["PROJECT"] == "models/triage"
    assert all(isinstance(line, str) for part in ("before_script", "script", "after_script") for line in gitlab[part])
    assert gitlab["script"][0].rstrip("\n") == steps(clone)["Gate"].rstrip("\n")


@pytest.mark.parametrize(
    ("service", "schema"),
    [("github", ["vendor.github-workflows"]), ("gitlab", ["vendor.gitlab-ci", "--data-transform", "gitlab-ci"])],
)
def test_a_workflow_meets_the_published_schema_of_its_service(
    service: Service, schema: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "workflow.yml"
    file.write_text(workflow(service, "models/triage"), encoding="utf-8")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", *schema, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_gate_of_a_clone_without_weights_passes_and_its_table_is_commented(
    clone: Path, commands: dict[str, str], service: tuple[str, type[Comments]], tmp_path: Path
) -> None:
    assert list(clone.rglob("*.safetensors")) == []
    assert not (clone / "models" / "triage" / ".fairlead").exists()
    address, handler = service
    summary = tmp_path / "summary.md"
    commands |= {"GITHUB_STEP_SUMMARY": str(summary), "GITHUB_API_URL": address, "GITHUB_REF": "refs/pull/12/merge"}
    for name in ("Gate", "Summary", "Comment"):
        done = run_step(name, clone, {**commands, **GITHUB})
        assert done.returncode == 0, done.stdout + done.stderr
    table = summary.read_text(encoding="utf-8")
    assert table.startswith("# Gate: passed")
    assert [comment["body"] for comment in handler.comments] == [f"{MARK}\n{table}"]
    assert handler.requests == [("POST", "/repos/org/repo/issues/12/comments")]


def test_evidence_that_is_out_of_date_fails_the_step_and_says_why(
    clone: Path, commands: dict[str, str], tmp_path: Path
) -> None:
    copy = tmp_path / "clone"
    shutil.copytree(clone, copy)
    rows = copy / "models" / "triage" / "eval.jsonl"
    rows.write_text(rows.read_text(encoding="utf-8") + '{"prompt": "another"}\n', encoding="utf-8")
    done = run_step("Gate", copy, commands)
    assert done.returncode == 3
    text = (copy / "gate-output" / "gate.md").read_text(encoding="utf-8")
    assert text.startswith("# Gate: not judged\n\n    ")
    assert "fairlead run" in text


@pytest.mark.parametrize(
    ("environment", "replaced"),
    [
        ({**GITHUB, "GITHUB_REF": "refs/pull/12/merge"}, ("PATCH", "/repos/org/repo/issues/comments/555")),
        (GITLAB, ("PUT", "/projects/7/merge_requests/3/notes/555")),
    ],
)
def test_the_comment_of_an_earlier_run_is_replaced(
    service: tuple[str, type[Comments]], environment: dict[str, str], replaced: tuple[str, str]
) -> None:
    address, handler = service
    handler.comments += [{"id": number, "body": "by a person"} for number in range(150)]
    handler.comments.append({"id": 555, "body": f"{MARK}\nold"})
    thread = thread_of({**environment, "GITHUB_API_URL": address, "CI_API_V4_URL": address})
    assert write_comment(thread, "new " * MAX_CHARS) == "replaced"
    assert handler.requests == [replaced]
    assert handler.comments[-1]["body"].startswith(f"{MARK}\nnew new")
    assert len(handler.comments[-1]["body"]) < 65_536


def test_a_refusal_is_one_line_that_does_not_name_the_token(service: tuple[str, type[Comments]]) -> None:
    thread = thread_of({**GITLAB, "CI_API_V4_URL": service[0], "FAIRLEAD_COMMENT_TOKEN": "unfit"})
    with pytest.raises(CommentError, match="the service answered 403") as caught:
        write_comment(thread, "text")
    assert "unfit" not in str(caught.value)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "in a job of GitHub Actions or GitLab CI only"),
        ({**GITHUB, "GITHUB_REF": "refs/heads/main"}, "for no pull request"),
        ({"GITLAB_CI": "true"}, "for no merge request"),
        ({**GITLAB, "CI_API_V4_URL": "http://x", "FAIRLEAD_COMMENT_TOKEN": ""}, "FAIRLEAD_COMMENT_TOKEN: is not set"),
    ],
)
def test_a_job_without_a_request_or_a_token_is_told_so(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        thread_of(environment)


def test_nothing_is_written_over_and_lines_for_git_are_added_once(tmp_path: Path) -> None:
    write_config(tmp_path, tiny_config())
    (tmp_path / "model").mkdir()
    (tmp_path / ".gitignore").write_text("mine/", encoding="utf-8")
    (tmp_path / FILES["gitlab"]).write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"\.gitlab-ci\.yml: is there already .* --only github"):
        write_ci(tmp_path)
    assert not (tmp_path / FILES["github"]).exists()
    assert len(write_ci(tmp_path, ("github",))) == 2
    assert (tmp_path / FILES["gitlab"]).read_text(encoding="utf-8") == "mine"
    with pytest.raises(ConfigError, match=r"move it away$"):
        write_ci(tmp_path)
    ignored = (tmp_path / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert (ignored[0], ignored[-1]) == ("mine/", "/model/")
    (tmp_path / FILES["github"]).unlink()
    assert len(write_ci(tmp_path, ("github",))) == 1
    assert (tmp_path / ".gitignore").read_text(encoding="utf-8").splitlines() == ignored


def test_a_folder_without_a_project_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fairlead init"):
        write_ci(tmp_path)
    assert repository_of(tmp_path) == tmp_path.resolve()
    assert 'PROJECT: "."' in workflow("github", ".")
