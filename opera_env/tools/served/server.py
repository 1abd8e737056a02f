"""Serves a restoration network on this machine, so that it is a tool of toolboxes in other processes.

This file imports nothing of its package. Python 3.8, torch, safetensors, starlette and uvicorn are enough,
so that a copy of it runs in the environment of any network. Elsewhere, ``opera-env serve-tool`` does the
same.

Example:
    python server.py my_module:restore --port 8100 --identity weights-of-2026-01
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import importlib
import re
import socket
import sys
import threading
from dataclasses import asdict, dataclass
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from typing import TYPE_CHECKING, Any, Callable, Optional  # noqa: UP035 - Python 3.8

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

Restore = Callable[[Tensor], Tensor]

PROTOCOL = 1
"""Version of what client and server exchange."""

TOKEN_BYTES = 16
"""Length of the token at the beginning of a block of shared memory; images follow it, then results."""

BYTES_PER_PIXEL = 12
"""Bytes of a pixel of three float32 values."""

_HEADER_BYTES = 1 << 16
BODY_SECONDS = 60.0
"""Longest time in which the body of a request has to arrive."""

_BLOCK_NAME = re.compile(r"(psm|wnsm)_[0-9a-f]{1,32}")
LOOPBACK_NAMES = ["127.0.0.1", "localhost"]
"""Hosts that requests to a server of this machine may name."""


@dataclass(frozen=True)
class Served:
    """What a server says of its tool.

    Attributes:
        name: Name of the network, "module:attribute".
        identity: What the tool says of its weights: equal texts mean equal results.
        scale: Factor by which it enlarges.
        multiple: Heights and widths that it takes are multiples of this number of pixels.
        minimum: Smallest height and width in pixels.
        halo: Receptive-field radius in pixels; None if it is unknown.
        max_pixels: Largest number of pixels of a batch, all images together.
        max_batch: Largest number of images in a call; larger batches are divided. 0 is no limit.
        shared_memory: Whether images may come in shared memory.
    """

    name: str
    identity: str
    scale: int = 1
    multiple: int = 1
    minimum: int = 1
    halo: Optional[int] = None  # noqa: UP045 - Python 3.8
    max_pixels: int = 1024 * 1024
    max_batch: int = 0
    shared_memory: bool = True


class RefusedError(Exception):
    """A request cannot be answered; the status is that of HTTP."""

    def __init__(self, status: int, message: str, out_of_memory: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.out_of_memory = out_of_memory


def identify(restore: Restore, name: str) -> str:
    """Returns what a network says of its weights.

    That is its attribute ``identity``, a text or a function that returns one; for a module without it the
    SHA-256 of its state, and for a function its name.
    """
    said = getattr(restore, "identity", None)
    if said is not None:
        return str(said() if callable(said) else said)
    if not isinstance(restore, nn.Module):
        return name
    digest = hashlib.sha256(name.encode())
    for key, tensor in restore.state_dict().items():
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        values = tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8)
        digest.update(values.numpy().tobytes())
    return f"sha256:{digest.hexdigest()[:32]}"


def make_app(restore: Restore, served: Served) -> Starlette:
    """Returns the application: ``GET /`` describes the tool, ``POST /restore`` restores a batch.

    Args:
        restore: The network, float32 (B, 3, H, W) to (B, 3, scale * H, scale * W).
        served: What is said of it.
    """
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    lock = threading.Lock()

    async def describe(request: Request) -> Response:
        return JSONResponse({"protocol": PROTOCOL, **asdict(served)})

    async def answer(request: Request) -> Response:
        headers = {"x-identity": served.identity}
        try:
            limit = served.max_pixels * BYTES_PER_PIXEL + _HEADER_BYTES
            body = await read_body(request, limit, "--max-pixels")
            in_shared_memory = request.headers.get("content-type") == "application/json"
            if in_shared_memory:
                shape = await run_in_threadpool(_answer_in_block, restore, served, body, lock)
                return JSONResponse({"shape": shape}, headers=headers)
            content = await run_in_threadpool(_answer, restore, served, body, lock)
            return Response(content, media_type="application/octet-stream", headers=headers)
        except RefusedError as refusal:
            content = {"error": str(refusal), "out_of_memory": refusal.out_of_memory}
            return JSONResponse(content, refusal.status, headers)

    # Browsers send requests of any web page to this machine, under a name that the page chooses.
    names = Middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK_NAMES)
    routes = [Route("/", describe), Route("/restore", answer, methods=["POST"])]
    return Starlette(routes=routes, middleware=[names])


async def read_body(request: Request, limit: int, setting: str) -> bytes:
    """Reads the body of a request, and no more of it than is allowed.

    Args:
        request: The request.
        limit: Largest number of bytes.
        setting: The setting that raises the limit, for the message.

    Raises:
        RefusedError: If the body is larger, or has not arrived in time.
    """
    too_large = RefusedError(413, f"expected a body of at most {limit:,} bytes ({setting})")
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise too_large

    async def read() -> bytes:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise too_large
        return bytes(body)

    try:
        return await asyncio.wait_for(read(), BODY_SECONDS)
    except asyncio.TimeoutError as error:  # noqa: UP041 - another class before Python 3.11
        raise RefusedError(408, f"the body did not arrive within {BODY_SECONDS:g} s") from error


def _answer(restore: Restore, served: Served, body: bytes, lock: threading.Lock) -> bytes:
    """Restores the images of a safetensors file; returns a safetensors file of the results."""
    try:
        images = load(body).get("images")
    except (SafetensorError, ValueError, KeyError) as error:
        raise RefusedError(400, f"expected a safetensors file, found {error}") from error
    if images is None or images.dtype != torch.float32:
        raise RefusedError(400, "expected a float32 tensor 'images'")
    return save({"images": _restore(restore, served, images, lock)})


def _answer_in_block(restore: Restore, served: Served, body: bytes, lock: threading.Lock) -> list[int]:
    """Restores images in a block of shared memory, and writes the results behind them."""
    import json

    try:
        request = json.loads(body)
        name, token, shape = request["block"], bytes.fromhex(request["token"]), tuple(request["shape"])
        if not _BLOCK_NAME.fullmatch(name) or len(token) != TOKEN_BYTES:
            raise ValueError(name)
        if len(shape) != 4 or not all(type(side) is int and side > 0 for side in shape):
            raise ValueError(shape)
    except (ValueError, KeyError, TypeError) as error:
        raise RefusedError(400, f"expected a block of shared memory and a shape, found {error}") from error
    try:
        block = _attach(name)
    except OSError as error:
        raise RefusedError(404, f"no shared memory {name!r} on this machine") from error
    try:
        count = shape[0] * shape[1] * shape[2] * shape[3]
        end = TOKEN_BYTES + 4 * count
        if block.buf is None or bytes(block.buf[:TOKEN_BYTES]) != token or block.size < end:
            raise RefusedError(404, f"the shared memory {name!r} is another one")
        images = torch.frombuffer(block.buf, dtype=torch.float32, count=count, offset=TOKEN_BYTES)
        images = images.clone().reshape(shape)
        result = _restore(restore, served, images, lock)
        if block.size < end + 4 * result.numel():
            raise RefusedError(400, "the results do not fit into the shared memory")
        target = torch.frombuffer(block.buf, dtype=torch.float32, count=result.numel(), offset=end)
        target.copy_(result.reshape(-1))
        del target  # a view of the block, which cannot be closed before
        return list(result.shape)
    finally:
        block.close()


def _attach(name: str) -> SharedMemory:
    """Opens a block of another process, which removes it."""
    if sys.version_info >= (3, 13):
        return SharedMemory(name, track=False)
    block = SharedMemory(name)
    resource_tracker.unregister(block._name, "shared_memory")  # pyright: ignore[reportAttributeAccessIssue]
    return block


def _restore(restore: Restore, served: Served, images: Tensor, lock: threading.Lock) -> Tensor:
    """Calls the network, one call at a time, and checks what it returns."""
    if images.ndim != 4 or images.shape[1] != 3 or images.numel() == 0:
        raise RefusedError(400, f"expected images (B, 3, H, W), found {tuple(images.shape)}")
    pixels = images.numel() // 3
    if pixels > served.max_pixels:
        raise RefusedError(413, f"expected at most {served.max_pixels:,} pixels, found {pixels:,}")
    results = []
    for part in images.split(served.max_batch or len(images)):
        height, width = (side * served.scale for side in part.shape[-2:])
        try:
            with lock, torch.no_grad():
                result = restore(part)
        except Exception as error:  # the network is any code
            name = type(error).__name__
            out_of_memory = isinstance(error, MemoryError) or name == "OutOfMemoryError"
            raise RefusedError(500, f"{name}: {error}", out_of_memory) from error
        expected, found = (len(part), 3, height, width), tuple(getattr(result, "shape", ()))
        if not isinstance(result, Tensor) or found != expected:
            what = found if isinstance(result, Tensor) else type(result).__name__
            raise RefusedError(500, f"expected a result of shape {expected}, found {what}")
        results.append(result.detach().to("cpu", torch.float32))
    return torch.cat(results).contiguous()


def serve(restore: Restore, served: Served, port: int, host: str = "127.0.0.1") -> None:
    """Serves until the process is told to end; prints the address first.

    Args:
        restore: The network.
        served: What is said of it.
        port: The port; 0 for any that is free.
        host: Address of this machine that others connect to.

    Raises:
        OSError: If the port is in use.
    """
    if isinstance(restore, nn.Module):
        restore.eval()

    def announce(address: str) -> str:
        return f"serving {served.name} at {address}, identity {served.identity}"

    run_app(make_app(restore, served), host, port, announce)


def run_app(
    app: Starlette,
    host: str,
    port: int,
    announce: Callable[[str], str],
    connections: int = 64,
    shutdown_seconds: int = 5,
) -> None:
    """Serves an application until the process is told to end; requests that have begun are answered.

    Args:
        app: The application.
        host: Address of this machine that others connect to.
        port: The port; 0 for any that is free.
        announce: Returns the line to print from the address.
        connections: Largest number of connections; others are answered with status 503.
        shutdown_seconds: Longest time for requests that have begun when the server is told to end.

    Raises:
        OSError: If the port is in use.
    """
    import uvicorn

    # asyncio sends small answers at once only where the protocol is named; else they take 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    config = uvicorn.Config(
        app,
        log_level="warning",
        lifespan="off",
        timeout_keep_alive=600,
        timeout_graceful_shutdown=shutdown_seconds,
        limit_concurrency=connections,
    )
    listener.listen()  # connections wait from here on until the server takes them
    print(announce(f"http://{host}:{listener.getsockname()[1]}"), flush=True)
    uvicorn.Server(config).run(sockets=[listener])


def main() -> None:
    """Reads the command line of a copy of this file, and serves."""
    parser = argparse.ArgumentParser(description="Serves a network as a tool.")
    parser.add_argument("name", help="module:attribute of the function or module; its code runs")
    parser.add_argument("--port", type=int, default=8100)
    parser.add_argument("--identity", help="what identifies its weights, such as a hash of their file")
    numbers = {"scale": 1, "multiple": 1, "minimum": 1, "max-pixels": 1024 * 1024, "max-batch": 0}
    for name, value in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    options: Any = vars(parser.parse_args())
    sys.path.insert(0, "")
    module, _, attribute = options["name"].partition(":")
    restore = getattr(importlib.import_module(module), attribute)
    port, identity = options.pop("port"), options.pop("identity")
    serve(restore, Served(identity=identity or identify(restore, options["name"]), **options), port)


if __name__ == "__main__":
    main()
