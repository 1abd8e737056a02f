"""Served tools: equal to their function, part of plans, caches and manifests; what is refused, and how."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
import torch
from safetensors.torch import save
from torch import Tensor, nn

from opera_env.cotraining import ExecutionConfig, ExecutionUpdate
from opera_env.errors import EndpointError, ToolboxError, ToolFailedError, UntrustedCodeError
from opera_env.execution import Executor
from opera_env.tools import Toolbox
from opera_env.tools.served.client import ServedNet
from opera_env.tools.served.server import identify
from opera_env.types import Sample
from tests.own_tools import Blend, invert
from tests.served import served_by_command, serving

IMAGE = torch.rand(3, 3, 33, 47, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving(invert, halo=0) as address:
        yield address


@pytest.fixture
def toolbox(address: str) -> Toolbox:
    return Toolbox().add("mine.served", address, degradations=["noise"])


def enlarge(image: Tensor) -> Tensor:
    return image.repeat_interleave(2, 2).repeat_interleave(2, 3)


def run(toolbox: Toolbox, samples: list[Sample], *plan: str) -> list[Tensor]:
    return [result.image for result in Executor(toolbox).run(samples, [plan] * len(samples))]


def test_a_served_tool_equals_its_function_and_says_what_the_server_says(toolbox: Toolbox) -> None:
    tool = toolbox["mine.served"]
    assert torch.equal(tool(IMAGE, (33, 47)), 1 - IMAGE)
    assert (tool.scale, tool.halo, tool.module, tool.parameters) == (1, 0, None, [])
    with serving(enlarge, scale=2, multiple=8, minimum=16) as address:
        tool = Toolbox().add("mine.enlarge", address)["mine.enlarge"]
        assert (tool.scale, tool.multiple, tool.minimum, tool.halo) == (2, 8, 16, None)
        assert torch.equal(tool(IMAGE, (99, 99)), enlarge(IMAGE))


def test_batches_are_divided_and_large_images_come_in_windows() -> None:
    calls: list[tuple[int, ...]] = []

    def restore(image: Tensor) -> Tensor:
        calls.append(tuple(image.shape))
        return 1 - image

    with serving(restore, max_pixels=32 * 32, max_batch=2) as address:
        tool = Toolbox().add("mine.small", address)["mine.small"]
        assert (tool(IMAGE, (33, 47)) - (1 - IMAGE)).abs().max() < 1e-5
        assert {shape[-2:] for shape in calls} == {(32, 32)}, "windows"
        calls.clear()
        images = torch.rand(7, 3, 16, 16)
        assert torch.equal(tool(images, (16, 16)), 1 - images)
        assert [shape[0] for shape in calls] == [2, 2, 2, 1], "four images a request, two a call"


def test_it_runs_in_plans_with_other_tools(toolbox: Toolbox, samples: list[Sample]) -> None:
    toolbox.add("mine.darken", lambda image: image - 0.1)
    plan = ("mine.darken", "mine.served")
    for result in Executor(toolbox).run(samples, [plan] * len(samples)):
        assert torch.allclose(result.image, 1 - (result.sample.lq - 0.1))


def test_it_is_saved_with_its_address_and_loaded_with_trust(toolbox: Toolbox, tmp_path: Path) -> None:
    toolbox.save(tmp_path / "box")
    with pytest.raises(UntrustedCodeError, match=r"served \(tool mine\.served\)"):
        Toolbox.load(tmp_path / "box")
    again = Toolbox.load(tmp_path / "box", trust_code=True)
    assert again.fingerprint == toolbox.fingerprint and again["mine.served"].halo == 0
    assert torch.equal(again["mine.served"](IMAGE, (33, 47)), 1 - IMAGE)


def test_the_fingerprint_is_what_the_tool_says_of_its_weights(toolbox: Toolbox, tmp_path: Path) -> None:
    with serving(invert, halo=0) as same, serving(invert, halo=0, identity="other") as changed:
        assert Toolbox().add("mine.served", same).fingerprint == toolbox.fingerprint
        other = Toolbox().add("mine.served", changed)
        assert other.fingerprint != toolbox.fingerprint and other.signature == toolbox.signature
        other.save(tmp_path / "box")
        manifest = json.loads((tmp_path / "box/toolbox.json").read_text())
        manifest["tools"][0]["options"]["address"] = same
        (tmp_path / "box/toolbox.json").write_text(json.dumps(manifest))
        with pytest.raises(
            ToolboxError, match=r"tools\[0\].*expected the weights 'other', found 'tests:restore'"
        ):
            Toolbox.load(tmp_path / "box", trust_code=True)


def test_modules_say_a_hash_of_their_weights_and_others_what_they_like() -> None:
    net, same, other = Blend(2), Blend(2), Blend(2)
    same.load_state_dict(net.state_dict())
    assert identify(net, "a:b") == identify(same, "a:b") != identify(other, "a:b")
    assert identify(net, "a:b") != identify(net, "a:c")
    assert identify(invert, "a:b") == "a:b"
    net.identity = lambda: "of today"  # pyright: ignore[reportAttributeAccessIssue]
    assert identify(net, "a:b") == "of today"


def test_weights_that_change_while_it_is_used_are_an_error() -> None:
    with serving(invert) as address:
        tool = Toolbox().add("mine.served", address)["mine.served"]
    with (
        serving(invert, port=urlsplit(address).port or 0, identity="new"),
        pytest.raises(
            EndpointError, match=r"has changed: expected the weights 'tests:restore', found 'new'"
        ),
    ):
        tool(IMAGE, (33, 47))


def test_it_cannot_be_trained_and_says_so(toolbox: Toolbox, samples: list[Sample]) -> None:
    with pytest.raises(ToolboxError, match=r"mine\.served: nothing to train.*served tools"):
        ExecutionUpdate(toolbox, ExecutionConfig(trainable_tools=("mine.served",)))
    toolbox.add("mine.conv", nn.Conv2d(3, 3, 1))
    update = ExecutionUpdate(toolbox, ExecutionConfig(loss="pixel"))
    with pytest.raises(
        ToolFailedError, match=r"'mine\.served' failed after mine\.conv.*not differentiable"
    ):
        update.step(samples, [("mine.conv", "mine.served")] * len(samples))
    assert update.step(samples, [("mine.served", "mine.conv")] * len(samples))["tools"] == 1


def fails(image: Tensor) -> Tensor:
    raise KeyError("no\nweights")


def out_of_memory_with_batches(image: Tensor) -> Tensor:
    if len(image) > 1:
        raise MemoryError("too much")
    return image


@pytest.mark.parametrize(
    ("restore", "says"),
    [
        (fails, r"answers 500: KeyError"),
        (
            lambda image: image[..., 1:],
            r"expected a result of shape \(1, 3, 64, 64\), found \(1, 3, 64, 63\)",
        ),
        (lambda image: None, r"expected a result of shape .*found NoneType"),
        (lambda image: image / 0 * 0, "NaN or infinity"),
    ],
    ids=["raises", "wrong size", "no tensor", "not finite"],
)
def test_failures_of_its_code_are_failures_of_the_tool(
    restore: Any, says: str, samples: list[Sample]
) -> None:
    with serving(restore) as address:
        toolbox = Toolbox().add("mine.served", address)
        with pytest.raises(ToolFailedError, match=r"'mine\.served' failed on the input image.*" + says):
            run(toolbox, samples, "mine.served")
        assert toolbox["mine.served"].restore.served.name == "tests:restore"  # type: ignore[attr-defined]


def test_a_batch_that_does_not_fit_into_its_memory_is_divided(samples: list[Sample]) -> None:
    with serving(out_of_memory_with_batches) as address:
        images = run(Toolbox().add("mine.served", address), samples, "mine.served")
    assert len(images) == len(samples)


def test_a_slow_tool_ends_in_a_clear_error(samples: list[Sample]) -> None:
    with serving(lambda image: [time.sleep(1), image][1]) as address:
        toolbox = Toolbox().add("mine.slow", address, options={"timeout": 0.3})
        start = time.monotonic()
        with pytest.raises(EndpointError, match=r"not answered within 0\.3 s.*\"timeout\": SECONDS"):
            run(toolbox, samples, "mine.slow")
        assert time.monotonic() - start < 0.9, "it is not tried again with each image"


def test_a_server_that_has_ended_is_named_and_one_that_returns_is_used_again(samples: list[Sample]) -> None:
    with serving(invert) as address:
        toolbox = Toolbox().add("mine.served", address)
        run(toolbox, samples, "mine.served")
    says = rf"{address} does not answer \(ConnectionRefused.*opera-env serve-tool tests:restore --port"
    with pytest.raises(EndpointError, match=says) as caught:
        run(toolbox, samples, "mine.served")
    assert "\n" not in str(caught.value)
    with serving(invert, port=urlsplit(address).port or 0):
        assert len(run(toolbox, samples, "mine.served")) == len(samples)


def post(address: str, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=5)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request("POST", "/restore", body, names)
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    return response.status, json.loads(content) if content[:1] == b"{" else {
        "error": content.decode(errors="replace")
    }


@pytest.mark.parametrize(
    ("body", "headers", "status", "says"),
    [
        (b"nonsense", {}, 400, "expected a safetensors file"),
        (b"", {}, 400, "expected a safetensors file"),
        (save({"other": torch.zeros(1)}), {}, 400, "'images'"),
        (save({"images": torch.zeros(1, 3, 8, 8, dtype=torch.float64)}), {}, 400, "float32"),
        (save({"images": torch.zeros(3, 8, 8)}), {}, 400, r"(B, 3, H, W)"),
        (save({"images": torch.zeros(1, 4, 8, 8)}), {}, 400, r"(B, 3, H, W)"),
        (save({"images": torch.zeros(0, 3, 8, 8)}), {}, 400, r"(B, 3, H, W)"),
        (save({"images": torch.zeros(2, 3, 40, 40)}), {}, 413, "at most 2,500 pixels, found 3,200"),
        (bytes(200_000), {}, 413, "at most 95,536 bytes"),
        (b"", {"Content_Length": "99999999999"}, 413, "at most 95,536 bytes"),
        (b"{}", {"Content_Type": "application/json"}, 400, "shared memory"),
        (
            b'{"block": "../x", "token": "00", "shape": []}',
            {"Content_Type": "application/json"},
            400,
            "../x",
        ),
        (
            json.dumps({"block": "psm_0badc0de", "token": "00" * 16, "shape": [1, 3, 8, 8]}).encode(),
            {"Content_Type": "application/json"},
            404,
            "no shared memory",
        ),
        (save({"images": torch.zeros(1, 3, 8, 8)}), {"Host": "evil.example"}, 400, "Invalid host"),
    ],
)
def test_bodies_that_are_no_images_or_too_large_are_refused(
    body: bytes, headers: dict[str, str], status: int, says: str
) -> None:
    with serving(invert, max_pixels=2500) as address:
        found, answer = post(address, body, **headers)
        assert found == status and says in answer["error"]
        assert post(address, save({"images": torch.zeros(1, 3, 8, 8)}))[0] == 200, "it goes on serving"


@pytest.mark.parametrize(
    "address",
    [
        *("http://example.org:80", "http://10.0.0.1:8100", "https://127.0.0.1:8100", "http://127.0.0.1"),
        *("http://127.0.0.1:99999", "http://127.0.0.1:8100/path", "http://127.0.0.1.example.org:80"),
    ],
)
def test_addresses_of_other_machines_are_refused(address: str) -> None:
    with pytest.raises(ToolboxError, match=r"a tool on this machine.*ssh -L"):
        Toolbox().add("mine.served", address)


@pytest.mark.parametrize(
    "options", [{"timeout": 0}, {"timeout": "1"}, {"width": 3}, {"identity": 3}], ids=str
)
def test_options_of_served_tools_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(ToolboxError, match=r"timeout|identity"):
        Toolbox().add("mine.served", "http://127.0.0.1:9", options=options)


@pytest.fixture
def answering() -> Iterator[Callable[[bytes, dict[str, str]], str]]:
    """Starts servers that answer with given bytes and headers; returns their addresses."""
    servers: list[ThreadingHTTPServer] = []

    def start(body: bytes, headers: dict[str, str]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(int(headers.get("status", "200")))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


SAID = {
    "protocol": 1,
    "name": "a:b",
    "identity": "x",
    "scale": 1,
    "multiple": 1,
    "minimum": 1,
    "max_pixels": 9,
}


@pytest.mark.parametrize(
    ("body", "headers", "says"),
    [
        (b"<html>", {}, "expected a tool of opera-env"),
        (b"[" * 5000, {}, "expected a tool of opera-env"),
        (json.dumps(SAID).encode(), {"status": "302", "Location": "http://example.org"}, "HTTP 302"),
        (json.dumps(SAID | {"protocol": 2}).encode(), {}, "this version of opera-env"),
        (
            json.dumps(SAID | {"scale": 10**9}).encode(),
            {},
            "scale 1000000000, expected a number from 1 to 16",
        ),
        (json.dumps(SAID | {"halo": "wide"}).encode(), {}, "halo 'wide'"),
        (json.dumps(SAID | {"identity": None}).encode(), {}, "without a name and an identity"),
        (bytes(100_000), {}, "more than 65,536 bytes"),
        (b"{}", {"Content-Length": "50"}, "IncompleteRead|cut 48 bytes before its end|IncompleteRead"),
    ],
)
def test_servers_of_something_else_are_refused(
    answering: Callable[[bytes, dict[str, str]], str], body: bytes, headers: dict[str, str], says: str
) -> None:
    with pytest.raises(EndpointError, match=says) as caught:
        ServedNet(answering(body, headers), timeout=5)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_the_command_serves_a_module_in_shared_memory(
    child_environment: dict[str, str], repository: Path
) -> None:
    environment = child_environment | {"PYTHONPATH": str(repository)}
    arguments = ("tests.own_tools:Blend", "--options", '{"width": 4}', "--port", "0", "--device", "cpu")
    with served_by_command(*arguments, environment=environment) as (address, process):
        toolbox = Toolbox().add("mine.served", address)
        net: Any = toolbox["mine.served"].restore
        first = toolbox["mine.served"](IMAGE, (33, 47))
        assert net._shares_memory and net._block is not None
        assert net.served.identity.startswith("sha256:")
        net._shares_memory = False
        assert torch.equal(toolbox["mine.served"](IMAGE, (33, 47)), first), "the same as safetensors"
        process.terminate()
        assert process.wait(20) == 143


@pytest.mark.slow
def test_the_file_of_the_server_runs_alone(
    tmp_path: Path, child_environment: dict[str, str], repository: Path
) -> None:
    """As in an environment that has neither this package nor its dependencies."""
    source = repository / "opera_env/tools/served/server.py"
    (tmp_path / "server.py").write_text(source.read_text())
    (tmp_path / "theirs.py").write_text("def restore(images):\n    return 1 - images\n")
    (tmp_path / "opera_env.py").write_text("raise ImportError('the server needs none of it')\n")
    environment = child_environment | {"PYTHONPATH": str(tmp_path)}
    arguments = ("theirs:restore", "--port", "0", "--identity", "mine")
    program = (str(tmp_path / "server.py"),)
    with served_by_command(*arguments, environment=environment, program=program) as (address, _):
        toolbox = Toolbox().add("mine.served", address)
        assert torch.equal(toolbox["mine.served"](IMAGE, (33, 47)), 1 - IMAGE)
