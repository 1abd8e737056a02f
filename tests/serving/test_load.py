"""Sixty-four clients score one plan a call: answers a second, waits, and clients that die.

The figures of docs/serving.md: ``pytest tests/serving/test_load.py -s -m slow``.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import requests

from opera_env.data import clean_folder
from opera_env.scoring import PlanScorer
from opera_env.serving.client import ScoringClient
from opera_env.tools import Toolbox
from opera_env.types import Plan, SampleSpec
from tests.served import served_by_command

pytestmark = pytest.mark.slow

CLIENTS, CALLS, GROUP = 64, 4, 8
"""Clients; calls of each; answers about one photograph, as in GRPO."""

SERVE = ("-m", "opera_env.cli", "serve")


def make_work(photos: Path, names: tuple[str, ...]) -> list[tuple[SampleSpec, Plan]]:
    """Draws groups of plans of one to four tools, as a trainer samples them."""
    rng = np.random.default_rng(0)
    source = clean_folder(photos, canvas=64)
    work: list[tuple[SampleSpec, Plan]] = []
    while len(work) < CLIENTS * CALLS:
        spec = source.draw(rng)
        lengths = rng.integers(1, 5, GROUP)
        work += [(spec, tuple(str(name) for name in rng.choice(names, length))) for length in lengths]
    return work


def load(
    address: str, work: list[tuple[SampleSpec, Plan]], scores: dict[int, float], waits: list[float]
) -> float:
    """Scores with 64 clients; collects R_q and seconds of each call, and returns the seconds of all."""

    def run(first: int) -> None:
        client = ScoringClient(address)
        for number in range(first, len(work), CLIENTS):
            spec, plan = work[number]
            start = time.perf_counter()
            (row,) = client.score([spec], [plan])
            waits.append(time.perf_counter() - start)
            scores[number] = row.outcome.r_q

    threads = [threading.Thread(target=run, args=(first,)) for first in range(CLIENTS)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start


def test_gathered_calls_are_faster_than_one_at_a_time(
    photos: Path, small_toolbox: Path, child_environment: dict[str, str]
) -> None:
    toolbox = Toolbox.load(small_toolbox)
    work = make_work(photos, toolbox.names)
    command = ["--toolbox", str(small_toolbox), "--images", str(photos), "--canvas", "64"]
    command += ["--reward", "classic", "--device", "cpu", "--port", "0"]
    rates: dict[str, float] = {}
    scores: dict[str, dict[int, float]] = {}
    for name, options in {"one at a time": ["--max-batch", "1"], "gathered": []}.items():
        with served_by_command(*command, *options, environment=child_environment, program=SERVE) as (
            address,
            _,
        ):
            load(address, work[:CLIENTS], {}, [])  # starts threads and reads the photographs
            scores[name], waits = {}, list[float]()
            seconds = load(address, work, scores[name], waits)
            text = requests.get(f"{address}/metrics", timeout=60).text
        rates[name] = len(work) / seconds
        p50, p95 = np.quantile(waits, [0.5, 0.95])
        tools = re.search(r"(?m)^opera_env_tools_run_total (\S+)$", text)
        print(
            f"{name}: {rates[name]:.1f} answers a second, p50 {p50:.2f} s, p95 {p95:.2f} s, "
            f"{float(tools[1]) if tools else 0:.0f} tool applications"
        )
    source = clean_folder(photos, canvas=64)
    specs = {spec: source.make(spec) for spec, _ in work}
    plans = [plan for _, plan in work]
    scorer = PlanScorer(toolbox, "classic")
    start = time.perf_counter()
    expected = scorer.score([specs[spec] for spec, _ in work], plans)
    rate = len(work) / (time.perf_counter() - start)
    print(f"in one call, in process: {rate:.1f} answers a second, {scorer.tools_run} tool applications")
    for name, found in scores.items():
        assert sorted(found) == list(range(len(work))), f"{name}: every call is answered"
        worst = max(abs(found[number] - outcome.r_q) for number, outcome in enumerate(expected))
        assert worst < 0.05, "results depend on batches by rounding errors only"
    assert rates["gathered"] > rates["one at a time"]


def ask_and_die(address: str, body: bytes) -> None:
    """Sends a request, and resets the connection as the system does for a process that is killed."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = f"POST /score HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(head.encode() + body)


def test_clients_that_die_and_a_stop_lose_nothing_of_others(
    photos: Path, small_toolbox: Path, child_environment: dict[str, str]
) -> None:
    toolbox = Toolbox.load(small_toolbox)
    work = make_work(photos, toolbox.names)
    command = ["--toolbox", str(small_toolbox), "--images", str(photos), "--canvas", "64"]
    command += ["--reward", "classic", "--device", "cpu"]
    found: dict[int, float] = {}
    with served_by_command(*command, "--port", "0", environment=child_environment, program=SERVE) as (
        address,
        process,
    ):
        item = {"spec": work[0][0].to_json(), "plan": list(work[0][1])}
        body = json.dumps({"items": [item]}).encode()
        clients = threading.Thread(target=load, args=(address, work, found, []))
        clients.start()
        while len(found) < 16 and clients.is_alive():
            ask_and_die(address, body)
            time.sleep(0.05)
        process.terminate()  # in the middle of the work
        assert process.wait(300) == 143
    assert 16 <= len(found) < len(work)
    port = address.rsplit(":", 1)[1]
    with served_by_command(*command, "--port", port, environment=child_environment, program=SERVE):
        clients.join()
    assert sorted(found) == list(range(len(work)))
