"""Times plans that run through an HTTP service with PNG files, as public agents call their tools.

Each step of a plan is a request that names an input file, a tool and an output file. A prefix whose file
exists is not run again. The result is read back and scored with pyiqa's metrics one by one. The script
prints the seconds of all plans; ``opera-env bench --only service`` runs it.

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

from opera_env.bench.config import STUDY_TOOLS
from opera_env.bench.context import BenchmarkContext
from opera_env.bench.naive import pyiqa_metrics
from opera_env.command_line import parse_settings
from opera_env.data.images import read_image, resize, to_array, to_tensor, write_image
from opera_env.search import all_plans
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample


@dataclass(frozen=True)
class HttpServiceConfig:
    """Runs all plans up to a length through the service."""

    toolbox: str = "lite"
    """Name of a shipped toolbox, or a folder."""
    tools: tuple[str, ...] = STUDY_TOOLS
    """Tools of the toolbox that are used."""
    length: int = 4
    """Largest number of tools in a plan."""
    device: str = "cpu"
    """Device of tools and metrics."""
    seed: int = 0
    """Seed of the sample."""


class Handler(BaseHTTPRequestHandler):
    """Applies one tool to one file."""

    protocol_version = "HTTP/1.1"
    toolbox: ClassVar[Toolbox]
    canvas: ClassVar[tuple[int, int]]

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        source, target = Path(request["image"]), Path(request["result"])
        if not target.exists():
            image = to_tensor(read_image(source))[None].to(self.toolbox.device)
            with torch.inference_mode():
                result = self.toolbox[request["tool"]](image, self.canvas)
            write_image(target, to_array(result[0]))
        response = json.dumps({"image": str(target)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(response)))
        self.end_headers()
        self.wfile.write(response)

    def log_message(self, format: str, *args: object) -> None:
        """Suppresses the log line of each request."""


def request_plan(address: str, folder: Path, plan: Plan) -> Path:
    """Requests the tools of a plan one after the other; returns the last file."""
    image = folder / "input.png"
    for length in range(1, len(plan) + 1):
        target = folder / f"{'+'.join(plan[:length])}.png"
        body = json.dumps({"image": str(image), "tool": plan[length - 1], "result": str(target)})
        request = urllib.request.Request(address, body.encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as response:
            image = Path(json.load(response)["image"])
    return image


def time_plans(toolbox: Toolbox, sample: Sample, plans: list[Plan]) -> float:
    """Runs and scores plans; returns the seconds of all of them."""
    assert sample.reference is not None
    compute_metrics = pyiqa_metrics(toolbox.device)
    reference = sample.reference[None].to(toolbox.device)
    Handler.toolbox, Handler.canvas = toolbox, sample.canvas
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_image(folder / "input.png", to_array(sample.lq))
        start = time.perf_counter()
        for plan in plans:
            image = to_tensor(read_image(request_plan(address, folder, plan)))
            image = resize(image[None].to(toolbox.device), sample.canvas).clamp(0, 1)
            with torch.inference_mode():
                compute_metrics(image, reference)
        seconds = time.perf_counter() - start
    server.shutdown()
    return seconds


def main(config: HttpServiceConfig) -> None:
    """Prints the seconds of all plans up to a length."""
    toolbox = Toolbox.load(config.toolbox, config.device).subset(config.tools)
    sample = BenchmarkContext(toolbox, config.toolbox, quick=True, seed=config.seed).samples[0]
    print(time_plans(toolbox, sample, [plan for plan in all_plans(toolbox.names, config.length) if plan]))


if __name__ == "__main__":
    main(parse_settings(HttpServiceConfig))
