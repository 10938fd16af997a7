"""A hub on this machine that speaks as much of the Hugging Face hub's HTTP API as uploads and downloads need."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Hub:
    """Repositories by name: files of the main branch, and tags with the files that they froze."""

    address: str = ""
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    tags: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    visibility: dict[str, str] = field(default_factory=dict)
    refuses_commits: bool = False


@contextmanager
def hub() -> Iterator[Hub]:
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            del format, args

        def _reply(self, status: int, body: Any, **headers: str) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def _missing(self) -> None:
            self._reply(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")

        def do_HEAD(self) -> None:
            self.do_GET()

        def _file(self, repo: str, revision: str, name: str) -> None:
            """A file of a tag, or of the main branch."""
            data = state.tags.get(repo, {}).get(revision, state.files[repo]).get(name)
            if data is None:
                self._reply(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound", X_Repo_Commit="1" * 40)
                return
            self.send_response(200)
            for key, value in {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": "1" * 40}.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        def do_GET(self) -> None:
            state.tokens.add(self.headers.get("Authorization", ""))
            parts = self.path.split("?")[0].strip("/").split("/")
            if "resolve" in parts[2:3]:
                return self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
            repo = "/".join(parts[2:4])
            if repo not in state.files:
                return self._missing()
            if parts[4:] == ["refs"]:
                tags = [{"name": t, "ref": f"refs/tags/{t}", "targetCommit": "1" * 40} for t in state.tags[repo]]
                return self._reply(200, {"branches": [], "converts": [], "tags": tags})
            if parts[4] == "tree":
                files = state.files[repo].items()
                return self._reply(
                    200, [{"type": "file", "path": n, "size": len(d), "oid": "2" * 40} for n, d in files]
                )
            siblings = [{"rfilename": name} for name in state.files[repo]]
            return self._reply(200, {"id": repo, "sha": "1" * 40, "siblings": siblings, "tags": []})

        def do_POST(self) -> None:
            state.tokens.add(self.headers.get("Authorization", ""))
            body = self._body()
            parts = self.path.split("?")[0].strip("/").split("/")
            if parts[-1] == "validate-yaml":
                return self._reply(200, {"errors": [], "warnings": []})
            if parts == ["api", "repos", "create"]:
                asked = json.loads(body)
                repo = f"{asked['organization']}/{asked['name']}"
                known = repo in state.files
                state.visibility.setdefault(repo, asked.get("visibility", "public"))
                state.files.setdefault(repo, {".gitattributes": b""})
                state.tags.setdefault(repo, {})
                return self._reply(409 if known else 200, {"url": f"{state.address}/{repo}"})
            repo = "/".join(parts[2:4])
            if repo not in state.files:
                return self._missing()
            return self._reply(*self._write(repo, parts[4], body))

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                content = b""
                while size := int(self.rfile.readline(), 16):
                    content += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return content
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def _write(self, repo: str, what: str, body: bytes) -> tuple[int, Any]:
            if what == "preupload":
                asked = json.loads(body)["files"]
                return 200, {
                    "files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked]
                }
            if what == "tag":
                state.tags[repo][json.loads(body)["tag"]] = dict(state.files[repo])
                return 200, {}
            if state.refuses_commits:
                return 403, {"error": "you may not write here"}
            for line in body.splitlines():
                row = json.loads(line)
                value = row["value"]
                if row["key"] == "file":
                    state.files[repo][value["path"]] = base64.b64decode(value["content"])
                elif row["key"] == "deletedFile":
                    del state.files[repo][value["path"]]
            return 200, {"commitUrl": f"{state.address}/{repo}/commit/{'1' * 40}", "commitOid": "1" * 40}

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
