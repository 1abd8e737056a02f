"""Damaged and hostile toolboxes and cards: each loads, or is refused in one line, in bounded time."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact

from opera_agents.planner.saved import SHIPPED as PLANNER
from opera_agents.planner.saved import load_policy
from opera_agents.ppo import agent as ppo_agent
from opera_agents.ppo.saved import load_agent
from opera_agents.vlm import saved as vlm_saved
from opera_baselines.recipe_best import SHIPPED_PLANS, PlanTable
from opera_env.errors import OperaError, UntrustedCodeError
from opera_env.metrics.critic import SHIPPED_CRITIC, load_critic
from opera_env.tools import Tool, Toolbox
from opera_env.tools.nets import build_net

MAX_SECONDS, MAX_MEGABYTES = 1.0, 200
VALUES: tuple[Any, ...] = (
    *(None, True, "", "4", "../x", "x\x00y", "\x1b[2J", 0, -1, 4.5, 10**9, 10**400),
    *(float("nan"), float("inf"), [], {}, [[]], [0], ["a"], {"a": 1}, [10**9], [-1], ["a"] * 5000),
)
"""What stands in for every value of a file, once for each."""

Load = Callable[[Path], Any]


def small_toolbox(folder: Path) -> None:
    nets: dict[str, tuple[str, dict[str, Any]]] = {
        "tiny.unet": ("unet", {"widths": [4, 8], "unshuffle": 2, "global_context": True}),
        "tiny.nafnet": ("nafnet", {"width": 4, "encoder": [1], "middle": 1, "decoder": [1]}),
        "tiny.gamma": ("gamma", {"gamma": 1.5, "tone": True}),
        "tiny.shift": ("shift", {"levels": 40}),
    }
    Toolbox(
        Tool(name, build_net(*net), multiple=4, degradations=frozenset({"noise"}), net=net)
        for name, net in nets.items()
    ).save(folder)


def checkpoints(folder: Path) -> None:
    """A toolbox of a checkpoint that spandrel recognises, which needs no trust either."""
    folder.mkdir()
    save_file(SRVGGNetCompact(num_feat=8, num_conv=2, upscale=4).state_dict(), folder / "net.safetensors")
    Toolbox().add("their.net", folder / "net.safetensors").save(folder)
    (folder / "net.safetensors").unlink()


def copy_of(source: Path) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("lite-cotrained"))

    return write


def copy_file(source: Path) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        folder.mkdir()
        shutil.copy(source, folder)

    return write


KINDS: dict[str, tuple[Callable[[Path], None], Load]] = {
    "toolbox": (small_toolbox, Toolbox.load),
    "checkpoints": (checkpoints, Toolbox.load),
    "planner": (copy_of(PLANNER), load_policy),
    "ppo": (copy_of(Path(ppo_agent.__file__).with_name("weights")), load_agent),
    "vlm": (
        copy_file(Path(vlm_saved.__file__).with_name("weights") / vlm_saved.METADATA_FILE),
        vlm_saved.load_card,
    ),
    "recipe_best": (copy_file(SHIPPED_PLANS), lambda folder: PlanTable.read(folder / SHIPPED_PLANS.name)),
    "critic": (copy_file(SHIPPED_CRITIC), lambda folder: load_critic(folder / SHIPPED_CRITIC.name)),
}
"""For each kind of folder: what writes a sound one, and what reads it."""

every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def folder(kind: str, tmp_path: Path) -> Path:
    KINDS[kind][0](tmp_path / "sound")
    KINDS[kind][1](tmp_path / "sound")  # imports happen before the clock starts
    return tmp_path / "sound"


@pytest.fixture
def check(kind: str, counts: Callable[..., None]) -> Iterator[Callable[[Path], str]]:
    """Loads a folder within the limits and says how it went; counts are printed after all tests."""
    load, results = KINDS[kind][1], {"loaded": 0, "refused": 0}
    process, slowest = psutil.Process(), 0.0

    def check(folder: Path) -> str:
        nonlocal slowest
        before, start = process.memory_info().rss, time.process_time()
        try:
            load(folder)
            result = "loaded"
        except OperaError as error:
            result = "refused"
            message = str(error)
            assert message.strip() and "\n" not in message and "\x1b" not in message
            assert len(message) < 1500, message
        seconds = time.process_time() - start
        slowest = max(slowest, seconds)
        assert seconds < MAX_SECONDS
        assert process.memory_info().rss - before < MAX_MEGABYTES * 2**20
        results[result] += 1
        return result

    yield check
    for result, number in results.items():
        counts(f"corrupted {kind} files: {result}", number)
    print(f"{kind}: {results}, slowest {slowest:.3f} s of CPU time")
    assert results["refused"] > 0


def damaged(data: bytes, rng: np.random.Generator) -> Iterator[bytes]:
    """Yields a file that is cut, empty, extended, of flipped bits, of zeros, and of something else."""
    for length in (0, 1, 7, 8, 9, len(data) // 2, len(data) - 1):
        yield data[:length]
    yield data + b"\x00"
    yield bytes(len(data))
    yield rng.bytes(len(data))
    yield b"[]"
    yield b"\x80\x04\x95\x00\x00" + data
    for _ in range(12):
        changed = bytearray(data)
        end = len(changed) if rng.random() < 0.5 else min(len(changed), 400)
        for position in rng.integers(end, size=int(rng.integers(1, 4))):
            changed[position] ^= 1 << int(rng.integers(8))
        yield bytes(changed)


@every_kind
def test_damaged_files(folder: Path, kind: str, check: Callable[[Path], str]) -> None:
    rng = np.random.default_rng(0)
    for path in sorted(folder.iterdir()):
        sound = path.read_bytes()
        for data in damaged(sound, rng):
            path.write_bytes(data)
            check(folder)
        path.unlink()
        check(folder)
        path.mkdir()
        check(folder)
        path.rmdir()
        path.write_bytes(sound)
        assert check(folder) == "loaded"


def changed_documents(document: Any) -> Iterator[Any]:
    """Yields a JSON document with each of its values replaced by each of :data:`VALUES`, or removed."""

    def places(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        yield path
        if isinstance(value, dict):
            for key in list(value)[:20]:
                yield from places(value[key], (*path, key))
        elif isinstance(value, list):
            for index in range(min(2, len(value))):
                yield from places(value[index], (*path, index))

    for path in places(document, ()):
        for value in (*VALUES, "remove"):
            if not path:
                yield value
                continue
            changed = copy.deepcopy(document)
            *parents, last = path
            parent = changed
            for key in parents:
                parent = parent[key]
            if value == "remove":
                del parent[last]
            else:
                parent[last] = value
            yield changed


@every_kind
def test_values_of_other_types_and_ranges(folder: Path, kind: str, check: Callable[[Path], str]) -> None:
    rng = np.random.default_rng(0)
    for path in sorted(folder.glob("*.json")):
        sound = path.read_text()
        document = json.loads(sound)
        if kind in ("planner", "ppo"):
            document["training"] = {}  # is passed on as it is
        documents = list(changed_documents(document))
        for index in rng.permutation(len(documents))[:600]:
            path.write_text(json.dumps(documents[index]))
            check(folder)
        path.write_text(sound)
    if kind == "critic":
        path = folder / SHIPPED_CRITIC.name
        tensors = load_file(path)
        with safe_open(path, "pt") as file:
            terms = json.loads(file.metadata()["terms"])
        for changed in (*changed_documents(terms[:2]), [terms[0]] * 100_000):
            save_file(tensors, path, {"terms": json.dumps(changed)})
            check(folder)
        for metadata in (None, {}, {"terms": "[" * 200_000}, {"terms": "[]}, {"}):
            save_file(tensors, path, metadata)
            check(folder)


@every_kind
def test_deep_nesting_and_large_files(folder: Path, kind: str, check: Callable[[Path], str]) -> None:
    for path in sorted(folder.iterdir()):
        sound = path.read_bytes()
        for text in ("[" * 10**6, '{"tools":' * 10**5, '{"a": ' + "9" * 10**6 + "}"):
            path.write_text(text)
            assert check(folder) == "refused"
        for header in (2**62, 99 * 2**20):
            path.write_bytes(header.to_bytes(8, "little"))
            with path.open("r+b") as file:
                file.truncate(100 * 2**20)  # sparse
            assert check(folder) == "refused"
        path.write_bytes(sound)


@pytest.mark.parametrize("kind", ["toolbox"])
@pytest.mark.parametrize(
    ("tool", "options"),
    [
        ("unet", {"widths": [2000, 4000]}),
        ("unet", {"widths": [4, 8], "blocks": 100_000}),
        ("unet", {"widths": [4] * 100_000}),
        ("unet", {"widths": [2**30, 2**30]}),
        ("unet", {"widths": [4, 8], "scale": 2**20}),
        ("unet", {"widths": [4, 8], "unshuffle": 2**20}),
        ("unet", {"widths": []}),
        ("unet", {"widths": [0, 0]}),
        ("nafnet", {"width": 2**20}),
        ("nafnet", {"middle": 10**7}),
        ("nafnet", {"encoder": [1] * 10**5, "decoder": [1] * 10**5}),
        ("nafnet", {"encoder": [0] * 10**5, "decoder": [0] * 10**5}),
        ("nafnet", {"width": 0, "middle": 10**6}),
        ("gamma", {"gamma": 0}),
        ("gamma", {"gamma": -1.5}),
        ("gamma", {"gamma": 1.5}),
        ("shift", {"levels": 40, "tone": True}),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_networks_larger_than_their_weight_file(
    folder: Path, kind: str, check: Callable[[Path], str], tool: str, options: dict[str, Any]
) -> None:
    """2.6 GB and 26 s in an earlier version; sizes are compared with the header of the file first."""
    manifest = json.loads((folder / "toolbox.json").read_text())
    entry = next(entry for entry in manifest["tools"] if entry["net"] == tool)
    entry["options"] = options
    (folder / "toolbox.json").write_text(json.dumps(manifest))
    tracemalloc.start()
    assert check(folder) == "refused"
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MAX_MEGABYTES * 2**20
    with pytest.raises(OperaError, match=rf"toolbox\.json: tools\[\d\]: .*{tool}"):
        Toolbox.load(folder)


@pytest.mark.parametrize("kind", ["toolbox", "checkpoints"])
def test_weight_files_with_a_right_hash_and_wrong_content(
    folder: Path, kind: str, check: Callable[[Path], str]
) -> None:
    """Whoever changes a weight file can change the hash in the manifest as well."""
    rng = np.random.default_rng(0)
    manifest = json.loads((folder / "toolbox.json").read_text())
    for entry in manifest["tools"][:3]:
        path = folder / entry["file"]
        sound, sha256 = path.read_bytes(), entry["sha256"]
        for data in (*damaged(sound, rng), *damaged(sound, rng)):
            path.write_bytes(data)
            entry["sha256"] = hashlib.sha256(data).hexdigest()
            (folder / "toolbox.json").write_text(json.dumps(manifest))
            check(folder)
        path.write_bytes(sound)
        entry["sha256"] = sha256


@pytest.mark.parametrize("kind", ["checkpoints"])
@pytest.mark.parametrize("name", ["body.1000000.weight", "body.-1.weight", "module.x", "params_ema"])
def test_names_of_weights_that_claim_a_large_network(
    folder: Path, kind: str, check: Callable[[Path], str], name: str
) -> None:
    """Spandrel counts layers by the numbers in the names of their weights."""
    manifest = json.loads((folder / "toolbox.json").read_text())
    path = folder / manifest["tools"][0]["file"]
    tensors = load_file(path)
    save_file(tensors | {name: next(iter(tensors.values())).clone()}, path)
    manifest["tools"][0]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "toolbox.json").write_text(json.dumps(manifest))
    assert check(folder) == "refused"


@pytest.mark.parametrize("kind", ["toolbox"])
@pytest.mark.parametrize(
    "net",
    ["os:system", "tests.own_tools:Blend", "torchscript", "exported", "onnx", "served", "builtins:eval"],
)
def test_code_never_runs_without_trust(
    folder: Path, kind: str, check: Callable[[Path], str], net: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opera_env.tools.own_code.import_attribute", lambda name: pytest.fail("code ran"))
    manifest = json.loads((folder / "toolbox.json").read_text())
    for entry in manifest["tools"]:
        document = json.dumps({**manifest, "tools": [entry | {"net": net, "options": {"a": 1}}]})
        (folder / "toolbox.json").write_text(document)
        assert check(folder) == "refused"
        with pytest.raises(UntrustedCodeError, match=net):
            Toolbox.load(folder)


@pytest.mark.parametrize("kind", ["toolbox"])
def test_many_tools(folder: Path, kind: str, check: Callable[[Path], str]) -> None:
    manifest = json.loads((folder / "toolbox.json").read_text())
    shift = manifest["tools"][-1]
    for number in (10**4, 257):
        manifest["tools"] = [shift | {"name": f"tiny.{index}"} for index in range(number)]
        (folder / "toolbox.json").write_text(json.dumps(manifest))
        assert check(folder) == "refused"
