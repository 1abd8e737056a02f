"""A small stand-in for how public agents call restoration tools: HTTP, PNG files, prefixes on disk.

Every step of a plan is a request that names a file and a tool; the answer names the file that the tool
wrote. A prefix whose file is there already is not run again. The result is read back and judged by
pyiqa's metrics one by one. Prints the seconds that all plans took.

Example:
    python scripts/http_service.py --length 4
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
import urllib.request
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import torch
import tyro

from opera_env.bench import FOUR, BenchmarkContext
from opera_env.bench.naive import pyiqa_metrics
from opera_env.data.images import read_image, resize, to_array, to_tensor, write_image
from opera_env.search import all_plans
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample


@dataclass(frozen=True)
class Service:
    """Runs all plans up to a length through the service."""

    toolbox: str = "lite"
    """A shipped toolbox or a folder."""
    tools: tuple[str, ...] = FOUR
    """Which of its tools."""
    length: int = 4
    """Longest plan."""
    device: str = "cpu"
    """Where tools and metrics run."""
    seed: int = 0
    """Of the sample."""


class Handler(BaseHTTPRequestHandler):
    """Applies one tool to one file."""

    protocol_version = "HTTP/1.1"
    toolbox: ClassVar[Toolbox]
    canvas: ClassVar[tuple[int, int]]

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        source, target = Path(asked["image"]), Path(asked["result"])
        if not target.exists():
            image = to_tensor(read_image(source))[None].to(self.toolbox.device)
            with torch.inference_mode():
                result = self.toolbox[asked["tool"]](image, self.canvas)
            write_image(target, to_array(result[0]))
        answer = json.dumps({"image": str(target)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


def restored(address: str, folder: Path, plan: Plan) -> Path:
    """Asks for one tool after the other; returns the last file."""
    image = folder / "input.png"
    for length in range(1, len(plan) + 1):
        target = folder / f"{'+'.join(plan[:length])}.png"
        body = json.dumps({"image": str(image), "tool": plan[length - 1], "result": str(target)})
        request = urllib.request.Request(address, body.encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as response:
            image = Path(json.load(response)["image"])
    return image


def seconds(toolbox: Toolbox, sample: Sample, plans: list[Plan]) -> float:
    """Runs and judges plans; returns how long it took."""
    assert sample.reference is not None
    judge = pyiqa_metrics(toolbox.device)
    reference = sample.reference[None].to(toolbox.device)
    Handler.toolbox, Handler.canvas = toolbox, sample.canvas
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_image(folder / "input.png", to_array(sample.lq))
        start = time.perf_counter()
        for plan in plans:
            image = to_tensor(read_image(restored(f"http://127.0.0.1:{server.server_port}/", folder, plan)))
            image = resize(image[None].to(toolbox.device), sample.canvas).clamp(0, 1)
            with torch.inference_mode():
                judge(image, reference)
        took = time.perf_counter() - start
    server.shutdown()
    return took


if __name__ == "__main__":
    options = tyro.cli(Service)
    box = Toolbox.load(options.toolbox, options.device).subset(options.tools)
    sample = BenchmarkContext(box, options.toolbox, quick=True, seed=options.seed).samples[0]
    print(seconds(box, sample, [plan for plan in all_plans(box.names, options.length) if plan]))
