"""Large photographs: peak memory and seconds per megapixel of ``opera-env restore``."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import skimage.data
from numpy.typing import NDArray

from opera_env.bench.context import BenchmarkContext
from opera_env.data.images import write_image

MAX_MEMORY = 2.5
"""Memory limit in GB, the default of the command."""

_CLI = (sys.executable, "-c", "import sys; from opera_env.cli import main; sys.exit(main())")


def large(bench: BenchmarkContext) -> list[dict[str, Any]]:
    """Restores photographs of 12 and 24 megapixels with the first and the third tool of the toolbox."""
    plan = bench.toolbox.names[:1] + bench.toolbox.names[2:3]
    rows: list[dict[str, Any]] = []
    for megapixels in (1.0, 2.0) if bench.quick else (12.0, 24.0):
        bench.progress(f"large: {megapixels:.0f} megapixels")
        device = str(bench.device)
        rows.append(measure_restore(megapixels, plan, MAX_MEMORY, bench.toolbox_name, device, bench.seed))
    return rows


def synthetic_photograph(megapixels: float, seed: int = 0) -> NDArray[np.uint8]:
    """Makes a noisy mosaic of photographs with an aspect ratio of 3 : 2, uint8 (H, W, 3)."""
    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    width = round(height * 1.5)
    rng = np.random.default_rng(seed)
    tiles = [
        np.asarray(photograph)[:300, :400]
        for photograph in (skimage.data.coffee(), skimage.data.astronaut())
    ]
    rows = [
        np.concatenate([tiles[rng.integers(2)] for _ in range(-(-width // 400))], axis=1)[:, :width]
        for _ in range(-(-height // 300))
    ]
    image = np.concatenate(rows)[:height]
    for top in range(0, height, 256):  # in strips: the noise of the whole image would take gigabytes
        strip = image[top : top + 256] + rng.normal(0, 15, image[top : top + 256].shape)
        image[top : top + 256] = strip.clip(0, 255)
    return image


def measure_restore(
    megapixels: float,
    plan: tuple[str, ...],
    max_memory: float,
    toolbox: str = "lite",
    device: str = "cpu",
    seed: int = 0,
) -> dict[str, Any]:
    """Restores a synthetic photograph in a separate process.

    Args:
        megapixels: Size of the photograph.
        plan: The tools to apply.
        max_memory: Memory limit in GB.
        toolbox: Name or folder of the toolbox.
        device: Device of the tools.
        seed: Seed of the photograph.

    Returns:
        Megapixels, peak memory in GB, seconds of the process, and seconds per megapixel, in total and for
        each tool.
    """
    image = synthetic_photograph(megapixels, seed)
    num_pixels = image.shape[0] * image.shape[1]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "large.jpg"
        write_image(source, image)
        del image
        command = [*_CLI, "restore", str(source), "-o", str(Path(folder) / "restored"), "--json"]
        command += ["--toolbox", toolbox, "--plan", ",".join(plan)]
        command += ["--max-memory", str(max_memory), "--device", device]
        start = time.perf_counter()
        result, peak = _run_with_peak_memory(command)
        seconds = time.perf_counter() - start
    rates = [seconds / num_pixels * 1e6 for seconds in result["photographs"][0]["tool_seconds"]]
    return {
        "megapixels": num_pixels / 1e6,
        "peak_gb": peak / 1e9,
        "process_s": seconds,
        "s_per_megapixel": sum(rates),
        "tools": dict(zip(plan, rates, strict=True)),
    }


def _run_with_peak_memory(command: list[str]) -> tuple[dict[str, Any], int]:
    """Runs a command; returns its JSON output and its peak resident memory in bytes."""
    peak = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        child = psutil.Process(process.pid)
        while process.poll() is None:
            with suppress(psutil.NoSuchProcess):
                peak = max(peak, child.memory_info().rss)
            time.sleep(0.02)
        stdout, stderr = process.communicate()
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command, stdout, stderr)
    return json.loads(stdout), peak
