"""A limited residency: what is on the device and in memory, when it leaves, and that results stay the same.

The device is the CPU. Copies on it are other memory than the home of the weights, as on a GPU.
"""

from __future__ import annotations

import copy
import pickle
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from opera_env.cotraining import ExecutionUpdate
from opera_env.errors import ToolboxError
from opera_env.tools import Toolbox
from opera_env.tools.fingerprint import weights_version
from opera_env.tools.residency import Residency
from tests.published_nets import small_tools

NAMES = ("a", "b", "c", "d", "e")
BLOCK = 512
"""Bytes of the weights of each tool: two tensors of at most 256 bytes."""

IMAGE = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def make_toolbox(names: tuple[str, ...] = NAMES) -> Toolbox:
    toolbox = Toolbox()
    for seed, name in enumerate(names):
        torch.manual_seed(seed)
        toolbox.add(name, nn.Conv2d(3, 3, 1))
    return toolbox


def run(toolbox: Toolbox, name: str) -> Tensor:
    with toolbox.running(toolbox[name]), torch.inference_mode():
        return toolbox[name](IMAGE, (8, 8))


def weight(toolbox: Toolbox, name: str) -> Tensor:
    return toolbox[name].parameters[0]


def test_the_least_recently_used_tools_leave() -> None:
    toolbox = make_toolbox()
    residency = Residency("cpu", max_bytes=2 * BLOCK + 100)
    toolbox.limit_memory(residency)
    assert residency.resident == () and residency.waiting_in_memory == NAMES
    for name, resident in (
        *(("a", "a"), ("b", "ab"), ("c", "bc"), ("b", "cb"), ("d", "bd"), ("b", "db")),
        *(("a", "ba"), ("a", "ba"), ("c", "ac")),
    ):
        run(toolbox, name)
        assert residency.resident == tuple(resident)


@settings(max_examples=30, deadline=None)
@given(
    calls=st.lists(st.tuples(st.sampled_from(NAMES), st.booleans()), max_size=20),
    room=st.integers(1, 5),
    host_room=st.integers(0, 5),
)
def test_it_agrees_with_a_plain_list(calls: list[tuple[str, bool]], room: int, host_room: int) -> None:
    toolbox, plain = make_toolbox(), make_toolbox()
    residency = Residency("cpu", room * BLOCK, host_room * BLOCK)
    toolbox.limit_memory(residency)
    used: list[str] = []
    for name, only_prefetch in calls:
        if only_prefetch:
            residency.prefetch(toolbox[name])
        else:
            assert torch.equal(run(toolbox, name), run(plain, name))
        used = [other for other in used if other != name] + [name]
        used = used[-room:]
        assert residency.resident == tuple(used)
    residency._loader.submit(int).result()  # after it, all copies have been made
    assert len(residency.waiting_in_memory) == min(host_room, len(NAMES))
    assert toolbox.fingerprint == plain.fingerprint


def test_a_tool_that_runs_stays_and_others_wait() -> None:
    toolbox = make_toolbox()
    residency = Residency("cpu", max_bytes=BLOCK)
    toolbox.limit_memory(residency)
    entered = threading.Event()

    def use_other() -> None:
        with residency.use(toolbox["b"]):
            entered.set()

    with residency.use(toolbox["a"]):
        residency.prefetch(toolbox["c"])
        assert residency.resident == ("a",), "there is no room to prefetch"
        thread = threading.Thread(target=use_other)
        thread.start()
        assert not entered.wait(0.05) and residency.resident == ("a",)
        before = weight(toolbox, "a").data_ptr()
    assert entered.wait(10)
    thread.join()
    assert residency.resident == ("b",) and weight(toolbox, "a").data_ptr() != before


def test_weights_move_without_becoming_others() -> None:
    toolbox = Toolbox(small_tools())
    version, fingerprint = weights_version(toolbox), toolbox.fingerprint
    states = {tool.name: copy.deepcopy(tool.module.state_dict()) for tool in toolbox if tool.module}
    strides = {
        tool.name: [p.stride() for p in (*tool.module.parameters(), *tool.module.buffers())]
        for tool in toolbox
        if tool.module
    }
    largest = max(sum(p.nbytes + 256 for p in state.values()) for state in states.values())
    residency = Residency("cpu", max_bytes=largest, max_host_bytes=2 * largest)
    toolbox.limit_memory(residency)
    for tool in (*toolbox, *toolbox):
        assert tool.module is not None
        home = [p.data_ptr() for p in tool.module.parameters()]
        with toolbox.running(tool):
            assert not {p.data_ptr() for p in tool.module.parameters()} & set(home)
            for key, value in tool.module.state_dict().items():
                assert torch.equal(value, states[tool.name][key])
            assert strides[tool.name] == [
                p.stride() for p in (*tool.module.parameters(), *tool.module.buffers())
            ]
            assert all(p.data_ptr() % 64 == 0 for p in tool.module.parameters())
    assert weights_version(toolbox) == version and toolbox.fingerprint == fingerprint
    assert all(p.requires_grad and not p.is_inference() for tool in toolbox for p in tool.parameters)


def test_tools_wait_in_files_where_memory_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Any] = []
    temporary_file = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: written.append(1) or temporary_file())
    toolbox, plain = make_toolbox(), make_toolbox()
    residency = Residency("cpu", max_bytes=BLOCK, max_host_bytes=2 * BLOCK)
    toolbox.limit_memory(residency)
    assert residency.waiting_in_memory == ("d", "e") and len(written) == 3
    for name, waiting in (("a", "ea"), ("e", "ae"), ("b", "eb"), ("c", "bc"), ("d", "cd"), ("a", "da")):
        assert torch.equal(run(toolbox, name), run(plain, name))
        assert residency.waiting_in_memory == tuple(waiting)
    assert len(written) == 5, "each tool is written once"
    torch.nn.init.ones_(weight(toolbox, "a").detach())
    run(toolbox, "b")
    run(toolbox, "c")
    assert len(written) == 6 and bool((weight(toolbox, "a") == 1).all())


@pytest.mark.parametrize("moment", ["at home", "prefetched", "on the device", "in a file"])
def test_weights_that_are_loaded_meanwhile_are_used(moment: str) -> None:
    toolbox, other = make_toolbox(), make_toolbox(("e", "d", "c", "b", "a"))
    residency = Residency("cpu", BLOCK, 0 if moment == "in a file" else None)
    toolbox.limit_memory(residency)
    before = toolbox.fingerprint
    if moment == "prefetched":
        residency.prefetch(toolbox["a"])
        residency._loader.submit(int).result()  # after it, the copy has been made
    elif moment == "on the device":
        run(toolbox, "a")
    for tool in toolbox:
        assert tool.module is not None
        tool.module.load_state_dict(other[tool.name].module.state_dict())  # type: ignore[union-attr]
    assert toolbox.fingerprint != before
    for name in ("a", "b", "a"):
        assert torch.equal(run(toolbox, name), run(other, name))


def test_a_toolbox_is_saved_and_its_weights_replaced_within_the_limit(tmp_path: Path) -> None:
    names = ["unet.denoise_15", "unet.denoise_50", "brighten.gamma_correction"]
    toolbox, plain = (Toolbox.load("lite").subset(names) for _ in range(2))
    toolbox.limit_memory(Residency("cpu", 1_200_000, 0))
    toolbox.save(tmp_path / "box")
    assert Toolbox.load(tmp_path / "box").fingerprint == plain.fingerprint == toolbox.fingerprint
    Toolbox.load("lite-cotrained").subset(toolbox.names).save(tmp_path / "other")
    other = Toolbox.load(tmp_path / "other")
    toolbox.load_weights(tmp_path / "other")
    assert toolbox.fingerprint == other.fingerprint != plain.fingerprint
    image = torch.rand(1, 3, 16, 16)
    for tool in (*toolbox, *toolbox):
        with toolbox.running(tool):
            assert torch.equal(tool(image, (16, 16)), other[tool.name](image, (16, 16)))


def test_a_full_disk_is_an_error_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Any:
        raise OSError(28, "No space left on device")

    toolbox, plain = make_toolbox(), make_toolbox()
    residency = Residency("cpu", max_bytes=BLOCK, max_host_bytes=4 * BLOCK)
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "TemporaryFile", fail)
        with pytest.raises(OSError, match="No space left"):
            toolbox.limit_memory(residency)
        assert toolbox.residency is None
    toolbox.limit_memory(residency)
    residency.max_host_bytes = BLOCK
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "TemporaryFile", fail)
        with pytest.raises(OSError, match="No space left"):
            run(toolbox, "a")
        assert residency.resident == ()
    for name in NAMES:
        assert torch.equal(run(toolbox, name), run(plain, name))


def test_subsets_and_several_toolboxes_share_the_limit() -> None:
    residency = Residency("cpu", max_bytes=2 * BLOCK)
    first, second = make_toolbox().limit_memory(residency), make_toolbox(("x", "y")).limit_memory(residency)
    run(first, "a")
    run(second, "x")
    run(first.subset(["c", "b"]), "b")
    assert residency.resident == ("x", "b")
    first.add("f", nn.Conv2d(3, 3, 1))
    run(first, "f")
    assert residency.resident == ("b", "f")


def test_a_toolbox_that_leaves_has_memory_of_its_own() -> None:
    residency = Residency("cpu", max_bytes=2 * BLOCK)
    toolbox, plain = make_toolbox().limit_memory(residency), make_toolbox()
    run(toolbox, "b")
    for forbidden in (copy.deepcopy, pickle.dumps):
        with pytest.raises(ToolboxError, match=r"memory limit cannot be copied: call toolbox\.to"):
            forbidden(toolbox)
    with pytest.raises(ToolboxError, match=r"while they are trained.*call toolbox\.to"):
        ExecutionUpdate(toolbox)
    toolbox.to("cpu")
    assert residency.resident == residency.waiting_in_memory == () and toolbox.residency is None
    assert all(p.untyped_storage().nbytes() == p.nbytes for tool in toolbox for p in tool.parameters)
    assert copy.deepcopy(toolbox).fingerprint == toolbox.fingerprint == plain.fingerprint
    run(toolbox, "b")
    toolbox["b"](IMAGE, (8, 8)).sum().backward()
    assert weight(toolbox, "b").grad is not None


def test_what_cannot_be_limited_is_named() -> None:
    shared = nn.Conv2d(3, 3, 1)
    parts = (nn.Sequential(shared), nn.Sequential(shared))
    toolbox = Toolbox().add("mine.one", parts[0]).add("mine.two", parts[1])
    with pytest.raises(ToolboxError, match=r"tools 'mine\.one' and 'mine\.two' share weights"):
        toolbox.limit_memory(Residency("cpu", 10**6))
    assert toolbox.residency is None
    with pytest.raises(ToolboxError, match=r"tool 'a' has 5\.12e-07 GB .* limit .* 5\.11e-07 GB: raise"):
        make_toolbox().limit_memory(Residency("cpu", BLOCK - 1))


def test_tools_without_weights_and_one_network_under_two_names() -> None:
    net = nn.Conv2d(3, 3, 1)
    toolbox = Toolbox().add("mine.one", net).add("mine.two", net)
    toolbox.add("mine.invert", lambda image: 1 - image).add("mine.same", nn.Identity())
    residency = Residency("cpu", BLOCK)
    toolbox.limit_memory(residency)
    expected: list[Callable[[Tensor], Tensor]] = [net, net, lambda image: 1 - image, lambda image: image]
    for name, function in zip(toolbox.names, expected, strict=True):
        with residency.use(toolbox[name]):
            assert torch.equal(toolbox[name](IMAGE, (8, 8)), function(IMAGE))
    assert residency.resident == ("mine.one",)
