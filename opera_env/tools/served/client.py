"""A tool in another process of this machine: the client of :mod:`opera_env.tools.served.server`."""

from __future__ import annotations

import json
import math
import os
import secrets
import threading
import time
import weakref
from contextlib import suppress
from dataclasses import fields
from http.client import HTTPConnection, HTTPException, HTTPResponse
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from opera_env.console import escape_controls
from opera_env.errors import EndpointError, ToolboxError, error_message
from opera_env.tools.served.address import parse_address
from opera_env.tools.served.server import PROTOCOL, TOKEN_BYTES, Served
from opera_env.tools.windows import InputSizes, restore_in_windows

SERVED = "served"
"""Kind of the network of a served tool in manifests."""

DEFAULT_TIMEOUT = 120.0
"""Longest time in seconds that an answer may take."""

_MAX_HEADER_BYTES = 1 << 16
_RANGES = {
    "scale": (1, 16),
    "multiple": (1, 1024),
    "minimum": (1, 1024),
    "halo": (0, 10**5),
    "max_pixels": (1, 10**9),
}
"""Smallest and largest values of what a server says of its tool."""


class ServedNet:
    """A network in another process. It has no gradients and cannot be trained.

    Images are sent in shared memory if the server can open it, else as safetensors. A connection that has
    ended since the last call is opened again.

    Args:
        address: ``http://127.0.0.1:PORT``.
        timeout: Longest time in seconds that an answer may take.
        identity: What the tool has to say of its weights; None for anything.

    Attributes:
        address, timeout: As above.
        served: What the server says of its tool.

    Raises:
        ToolboxError: If the address is not one of this machine, or the tool has other weights.
        EndpointError: If no server answers there, or it serves no tool.

    Shape:
        float32 (B, 3, H, W) to float32 (B, 3, scale * H, scale * W).
    """

    runs_outside_torch = True

    def __init__(self, address: str, timeout: float = DEFAULT_TIMEOUT, identity: str | None = None) -> None:
        self.address, self.timeout = address.rstrip("/"), timeout
        self._host, self._port = parse_address(address)
        self._lock, self._process = threading.Lock(), os.getpid()
        self._connection: HTTPConnection | None = None
        self._block: SharedMemory | None = None
        self.served = self._describe()
        self._shares_memory = self.served.shared_memory
        if identity is not None and self.served.identity != identity:
            raise ToolboxError(
                f"the tool served at {self.address}: expected the weights {identity!r}, found "
                f"{self.served.identity!r}: serve those, or add the tool again"
            )
        side = math.isqrt(self.served.max_pixels)
        self.sizes = InputSizes(
            multiple=self.served.multiple, minimum=self.served.minimum, maximum=(side, side)
        )

    def __reduce__(self) -> tuple[type[ServedNet], tuple[str, float, str]]:
        return ServedNet, (self.address, self.timeout, self.served.identity)

    def __call__(self, image: Tensor) -> Tensor:
        return restore_in_windows(self._restore, image, self.sizes, self.served.scale)

    def _restore(self, image: Tensor) -> Tensor:
        count = max(1, self.served.max_pixels // (image.shape[-2] * image.shape[-1]))
        parts = image.detach().to("cpu", torch.float32).split(count)
        with self._lock:
            if self._process != os.getpid():  # the connection and the block are those of the parent process
                self._process, self._connection, self._block = os.getpid(), None, None
            results = [self._restore_part(part.contiguous()) for part in parts]
        return torch.cat(results).to(image.device)

    def _restore_part(self, images: Tensor) -> Tensor:
        if self._shares_memory and (result := self._restore_in_block(images)) is not None:
            return result
        expected = self._result_shape(images)
        limit = 4 * math.prod(expected) + _MAX_HEADER_BYTES
        body = self._post(save({"images": images}), "application/octet-stream", limit)
        try:
            result = load(body)["images"]
        except (SafetensorError, ValueError, KeyError) as error:
            raise self._unexpected(f"a body that is no result ({error_message(error)})") from error
        if tuple(result.shape) != expected or result.dtype != torch.float32:
            raise self._unexpected(f"a result of shape {tuple(result.shape)}, expected {expected}")
        return result

    def _restore_in_block(self, images: Tensor) -> Tensor | None:
        """Sends images in shared memory; None if the server cannot open it, as on another machine."""
        expected = self._result_shape(images)
        end = TOKEN_BYTES + images.nbytes
        block = self._open_block(end + 4 * math.prod(expected))
        token = secrets.token_bytes(TOKEN_BYTES)
        assert block.buf is not None  # it is open
        block.buf[:TOKEN_BYTES] = token
        torch.frombuffer(block.buf, dtype=torch.float32, count=images.numel(), offset=TOKEN_BYTES).copy_(
            images.reshape(-1)
        )
        request = {"block": block.name, "token": token.hex(), "shape": list(images.shape)}
        try:
            body = self._post(json.dumps(request).encode(), "application/json", _MAX_HEADER_BYTES)
        except _NoSharedMemoryError:
            self._shares_memory = False
            return None
        if _parse_json(body).get("shape") != list(expected):
            raise self._unexpected(f"a result that is not of shape {expected}")
        values = torch.frombuffer(block.buf, dtype=torch.float32, count=math.prod(expected), offset=end)
        return values.clone().reshape(expected)

    def _open_block(self, size: int) -> SharedMemory:
        """Returns a block of at least a size; a smaller one that exists is replaced."""
        if self._block is None or self._block.size < size:
            if self._block is not None:
                _remove(self._block, os.getpid())
            self._block = SharedMemory(create=True, size=size)
            weakref.finalize(self, _remove, self._block, os.getpid())
        return self._block

    def _result_shape(self, images: Tensor) -> tuple[int, ...]:
        height, width = images.shape[-2:]
        return (len(images), 3, height * self.served.scale, width * self.served.scale)

    def _describe(self) -> Served:
        status, _, body = self._exchange("GET", "/", b"", "", _MAX_HEADER_BYTES)
        data = _parse_json(body)
        if status != 200 or data.get("protocol") != PROTOCOL:
            raise self._unexpected(f"HTTP {status} and {_shorten(body)}, expected a tool of opera-env")
        values: dict[str, Any] = {field.name: data.get(field.name) for field in fields(Served)}
        for name, (low, high) in _RANGES.items():
            value = values[name]
            is_unknown = name == "halo" and value is None
            if not is_unknown and not (type(value) is int and low <= value <= high):
                raise self._unexpected(f"{name} {value!r}, expected a number from {low} to {high}")
        if not isinstance(values["identity"], str) or not isinstance(values["name"], str):
            raise self._unexpected("a tool without a name and an identity")
        values["shared_memory"] = values["shared_memory"] is True
        return Served(**values)

    def _post(self, body: bytes, content_type: str, limit: int) -> bytes:
        """Posts images and returns the body of the answer.

        Raises:
            RuntimeError: If the network raised an error, or the server refuses the images.
            MemoryError: If the network ran out of memory.
            EndpointError: If there is no answer, or the tool has other weights than before.
        """
        status, headers, answer = self._exchange("POST", "/restore", body, content_type, limit)
        if headers.get("x-identity") != self.served.identity:
            found = headers.get("x-identity")
            if found is None:
                raise self._unexpected(f"HTTP {status} and {_shorten(answer)}")
            raise EndpointError(
                f"the tool served at {self.address} has changed: expected the weights "
                f"{self.served.identity!r}, found {escape_controls(found)!r}: serve those, or add the tool "
                "again."
            )
        if status == 200:
            return answer
        data = _parse_json(answer)
        message = escape_controls(str(data.get("error")))[:500]
        if status == 404 and content_type == "application/json":
            raise _NoSharedMemoryError(message)
        if data.get("out_of_memory") is True:
            raise MemoryError(f"the served tool has not enough memory: {message}")
        raise RuntimeError(f"the served tool {self.served.name} answers {status}: {message}")

    def _exchange(
        self, method: str, path: str, body: bytes, content_type: str, limit: int
    ) -> tuple[int, Any, bytes]:
        """Sends a request, once more if a connection from before turns out to have ended.

        Returns:
            The status, the headers, and the body of the answer.
        """
        deadline = time.monotonic() + self.timeout
        while True:
            is_new = self._connection is None
            connection = self._connection or HTTPConnection(self._host, self._port, timeout=self.timeout)
            self._connection = None  # until the answer is complete
            try:
                connection.request(method, path, body, {"Content-Type": content_type} if body else {})
                response = connection.getresponse()
                answer = self._read(response, limit, deadline)
            except TimeoutError as error:
                connection.close()
                raise EndpointError(
                    f"the tool served at {self.address} has not answered within {self.timeout:g} s: allow "
                    'more with toolbox.add(..., options={"timeout": SECONDS}), or send smaller images.'
                ) from error
            except (OSError, HTTPException) as error:
                connection.close()
                if is_new:
                    raise EndpointError(self._absent(error)) from error
                continue
            if not response.will_close:
                self._connection = connection
            return response.status, response.headers, answer

    def _read(self, response: HTTPResponse, limit: int, deadline: float) -> bytes:
        body = bytearray()
        while chunk := response.read1(1 << 20):
            body += chunk
            if len(body) > limit:
                response.close()
                raise self._unexpected(f"more than {limit:,} bytes")
            if time.monotonic() > deadline:
                raise TimeoutError
        if response.length:
            raise HTTPException(f"the answer was cut {response.length:,} bytes before its end")
        response.close()  # not the connection, which takes the next request
        return bytes(body)

    def _absent(self, error: Exception) -> str:
        served = getattr(self, "served", None)
        name = "module:attribute" if served is None else escape_controls(served.name)
        return (
            f"the tool served at {self.address} does not answer ({type(error).__name__}: "
            f"{error_message(error)}): its process has ended, or was not started. Start it with: opera-env "
            f"serve-tool {name} --port {self._port}"
        )

    def _unexpected(self, found: str) -> EndpointError:
        return EndpointError(
            f"the server at {self.address} returned {found}. Is the address right, and is it a server of "
            "this version of opera-env?"
        )


class _NoSharedMemoryError(Exception):
    """The server cannot open a block of shared memory."""


def _remove(block: SharedMemory, process: int) -> None:
    """Removes a block, unless it was removed before or is that of the parent process."""
    block.close()
    if process == os.getpid():
        with suppress(FileNotFoundError):
            block.unlink()


def _parse_json(body: bytes) -> dict[str, Any]:
    """Returns the JSON object of a body; an empty one if it is something else."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _shorten(body: bytes) -> str:
    return repr(body[:100].decode(errors="replace"))
