"""Memory over thousands of episodes: flat once the cache is full, and given back by close().

Every figure is printed, and measured with the variables that make glibc keep freed memory (Makefile),
as well as without them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import Counts
from tests.faults.processes import child_environment

EPISODES = {"one-shot": 3000, "stepwise": 1000}
WARM_UP = 300
"""Episodes after which memory has to be flat: the cache of the stepwise environment is full by then."""

KEEPS_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "17179869184"}
ALLOCATORS = {"default": {}, "Makefile": KEEPS_FREED_MEMORY}
CACHE = 256
"""Size of the cache in MiB."""


@pytest.fixture(scope="module")
def figures() -> Iterator[dict[str, Any]]:
    """Both processes run at the same time, with one thread each."""
    script = Path(__file__).with_name("soak.py")
    arguments = [sys.executable, str(script), *map(str, EPISODES.values())]
    clean = {name: value for name, value in child_environment().items() if name not in KEEPS_FREED_MEMORY}
    processes = {
        allocator: subprocess.Popen(arguments, env=clean | variables, stdout=subprocess.PIPE, text=True)
        for allocator, variables in ALLOCATORS.items()
    }
    try:
        results: dict[str, Any] = {}
        for allocator, process in processes.items():
            out, _ = process.communicate(timeout=1800)
            assert process.returncode == 0
            results[allocator] = json.loads(out)
        yield results
    finally:
        for process in processes.values():
            process.kill()


@pytest.mark.parametrize("kind", EPISODES)
@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_memory_is_flat_and_given_back(
    figures: dict[str, Any], counts: Counts, allocator: str, kind: str
) -> None:
    """Flat within 10 % after the first 300 episodes, and a cache of 256 MiB costs little more than that."""
    result = figures[allocator][kind]
    memory = {int(episode): value for episode, value in result["memory"].items()}
    last = memory[EPISODES[kind]]
    label = f"soak, {kind}, {allocator} allocator"
    counts(f"{label}: episodes", EPISODES[kind])
    counts(f"{label}: tools run", result["tools"])
    counts(f"{label}: seconds", round(result["seconds"]))
    for name, value in (
        ("at the start", memory[0]),
        (f"after {WARM_UP} episodes", memory[WARM_UP]),
        ("at the end", last),
        ("after close()", result["closed"]),
    ):
        counts(f"{label}: MiB {name}", round(value))

    later = [value for episode, value in memory.items() if episode >= WARM_UP]
    assert max(later) <= 1.1 * memory[WARM_UP]
    assert min(later) >= 0.9 * memory[WARM_UP]
    assert last - memory[0] < result["cached"] + 0.25 * CACHE
    if kind == "stepwise":
        assert result["cached"] > 0.95 * CACHE  # full
        assert last - result["closed"] > result["cached"]
    assert result["closed"] - memory[0] < 0.25 * CACHE
