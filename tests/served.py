"""Servers of tools for tests: in a thread of this process, or in a process of their own."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
import uvicorn

from opera_env.tools.served.server import Restore, Served, identify, make_app


@contextmanager
def serving_app(app: Any, port: int = 0) -> Iterator[str]:
    """Serves an application in a thread; yields its address."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    config = uvicorn.Config(
        app, log_level="critical", lifespan="off", ws="none", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def serving(restore: Restore, port: int = 0, **said: Any) -> Iterator[str]:
    """Serves a function in a thread, without shared memory; yields its address."""
    served = Served("tests:restore", identify(restore, "tests:restore"), shared_memory=False)
    with serving_app(make_app(restore, replace(served, **said)), port) as address:
        yield address


@contextmanager
def served_by_command(
    *arguments: str,
    environment: Mapping[str, str],
    program: tuple[str, ...] = ("-m", "opera_env.cli", "serve-tool"),
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Runs ``opera-env serve-tool`` or another program; yields the printed address, and the process."""
    command = [sys.executable, *program, *arguments]
    with subprocess.Popen(command, env=dict(environment), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            address = re.search(r"http://127\.0\.0\.1:\d+", line)
            assert address is not None, line
            yield address[0], process
        finally:
            process.kill()


def free_port() -> int:
    with socket.socket() as server_socket:
        server_socket.bind(("127.0.0.1", 0))
        return int(server_socket.getsockname()[1])


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path, seconds: float = 120) -> None:
    """Waits until a server answers."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        with suppress(requests.ConnectionError):
            if requests.get(url, timeout=5).ok:
                return
        time.sleep(0.5)
    pytest.fail(f"the server did not start: {log.read_text()[-2000:]}")
