"""A local stand-in of the endpoints of the Hugging Face hub that pushing and pulling use."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit


class Repository:
    """The files of a repository at its only revision."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.num_commits = 0

    @property
    def commit(self) -> str:
        return hashlib.sha1(f"commit {self.num_commits}".encode()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Answers as the hub does: weights travel by LFS, all other files inside the commit."""

    repositories: ClassVar[dict[str, Repository]]
    blobs: ClassVar[dict[str, bytes]]
    requests: ClassVar[list[str]]
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        path, body = self._path(), self._body()
        if path == "/api/repos/create":
            request = json.loads(body)
            name = f"{request['organization']}/{request['name']}"
            prefix = "datasets/" if request.get("type") == "dataset" else ""
            self.repositories.setdefault(prefix + name, Repository())
            self._json({"url": f"{self._address()}/{prefix}{name}", "id": name})
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            files = json.loads(body)["files"]
            self._json({"files": [self._upload_mode(file["path"]) for file in files]})
        elif path.endswith(".git/info/lfs/objects/batch"):
            self._json(
                {"transfer": "basic", "objects": [self._lfs(o) for o in json.loads(body)["objects"]]}
            )
        elif "/commit/" in path:
            name = self._repo_of(path.split("/commit/")[0])
            repository = self.repositories[name]
            for line in body.decode().splitlines():
                self._apply(repository, json.loads(line))
            repository.num_commits += 1
            url = f"{self._address()}/{name}/commit/{repository.commit}"
            self._json({"success": True, "commitOid": repository.commit, "commitUrl": url})
        else:
            self._missing("EntryNotFound")

    def do_PUT(self) -> None:
        self.blobs[self._path().removeprefix("/blob/")] = self._body()
        self._send(200, b"")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self._path()
        if "/resolve/" in path:
            name, _, rest = path.lstrip("/").partition("/resolve/")
            repository, file = self.repositories.get(name), rest.partition("/")[2]
            if repository is None or file not in repository.files:
                return self._missing("EntryNotFound" if repository else "RepoNotFound")
            data = repository.files[file]
            headers = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": repository.commit}
            return self._send(200, data, headers)
        name, _, revision = path.removeprefix("/api/").partition("/revision/")
        repository = self.repositories.get(self._repo_of(f"/api/{name}"))
        if repository is None:
            return self._missing("RepoNotFound")
        if revision not in ("", "main", repository.commit):
            return self._missing("RevisionNotFound")
        siblings = [{"rfilename": file, "size": len(data)} for file, data in repository.files.items()]
        return self._json({"id": name, "sha": repository.commit, "siblings": siblings})

    def _path(self) -> str:
        path = unquote(urlsplit(self.path).path)
        self.requests.append(f"{self.command} {path}")
        return path

    def _repo_of(self, path: str) -> str:
        return path.removeprefix("/api/").removeprefix("models/")

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _upload_mode(self, path: str) -> dict[str, Any]:
        mode = "lfs" if path.endswith(".safetensors") else "regular"
        return {"path": path, "uploadMode": mode, "shouldIgnore": False}

    def _lfs(self, blob: dict[str, Any]) -> dict[str, Any]:
        return {**blob, "actions": {"upload": {"href": f"{self._address()}/blob/{blob['oid']}"}}}

    def _address(self) -> str:
        host, port = self.server.server_address[:2]
        return f"http://{host}:{port}"

    def _apply(self, repository: Repository, entry: dict[str, Any]) -> None:
        value = entry["value"]
        if entry["key"] == "file":
            repository.files[value["path"]] = base64.b64decode(value["content"])
        elif entry["key"] == "lfsFile":
            data = self.blobs[value["oid"]]
            assert hashlib.sha256(data).hexdigest() == value["oid"]
            repository.files[value["path"]] = data

    def _json(self, content: Any) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _missing(self, code: str) -> None:
        self._send(404, b"{}", {"X-Error-Code": code, "Content-Type": "application/json"})

    def _send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


class StandIn:
    """A running stand-in.

    Attributes:
        endpoint: Its address.
        repositories: Its repositories, by name.
        requests: The requests so far, such as ``"GET /api/models/me/tools"``.
    """

    def __init__(self, endpoint: str, handler: type[Handler]) -> None:
        self.endpoint = endpoint
        self.repositories, self.requests = handler.repositories, handler.requests


@contextmanager
def run_stand_in() -> Iterator[StandIn]:
    """Runs a stand-in on a free port."""
    content: dict[str, Any] = {"repositories": {}, "blobs": {}, "requests": []}
    handler = type("FreshHandler", (Handler,), content)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield StandIn(f"http://127.0.0.1:{server.server_port}", handler)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
