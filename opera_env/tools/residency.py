"""Tools that share a limited amount of a device's memory.

The weights of a tool are one block of bytes, of which its parameters and buffers are views. A block lies in
pinned memory, from which a GPU copies without the help of the CPU, or in a temporary file where that memory
is full too. A copy of it is on the device while the tool runs, and afterwards until the room is needed.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

import psutil
import torch
from torch import Tensor

from opera_env.errors import ToolboxError
from opera_env.tools.tool import Tool
from opera_env.tools.weight_block import WeightBlock

_HOST_MEMORY_SHARE = 0.5
"""Share of the free memory of the computer that waiting tools may take by default."""


class Residency:
    """Keeps the least recently used tools off a device, so that the others fit into its memory.

    Several toolboxes may share one. A tool that runs stays; a call that needs room waits until enough of
    the running tools have ended. Results do not depend on any of this. The weights must not be trained
    meanwhile; other changes of them, such as by ``load_state_dict``, are kept.

    Args:
        device: Device that runs the tools.
        max_bytes: Bytes of its memory that weights may take. Images and activations come on top.
        max_host_bytes: Bytes of the computer's memory in which tools wait; those that do not fit lie in
            temporary files. By default half of the memory that is free.

    Example:
        >>> from torch import nn
        >>> from opera_env.tools import Toolbox
        >>> toolbox = Toolbox().add("a", nn.Conv2d(3, 3, 1)).add("b", nn.Conv2d(3, 3, 1))
        >>> residency = Residency("cpu", max_bytes=1024)
        >>> toolbox = toolbox.limit_memory(residency)
        >>> with residency.use(toolbox["a"]):
        ...     residency.resident
        ('a',)
    """

    def __init__(
        self, device: torch.device | str, max_bytes: int, max_host_bytes: int | None = None
    ) -> None:
        self.device, self.max_bytes = torch.device(device), max_bytes
        if max_host_bytes is None:
            max_host_bytes = int(_HOST_MEMORY_SHARE * psutil.virtual_memory().available)
        self.max_host_bytes = max_host_bytes
        self._blocks: dict[int, WeightBlock] = {}  # by the identity of the module
        self._on_device: OrderedDict[WeightBlock, Future[Tensor]] = OrderedDict()  # by their last use
        self._in_memory: OrderedDict[WeightBlock, None] = OrderedDict()  # the same; changed by the loader
        self._changed = threading.Condition(threading.RLock())
        self._loader = ThreadPoolExecutor(1, "weights")  # one thread, so that copies are made in order
        self._stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None

    @property
    def resident(self) -> tuple[str, ...]:
        """Names of the tools on the device, or on the way to it; the least recently used one first."""
        with self._changed:
            return tuple(block.name for block in self._on_device)

    @property
    def waiting_in_memory(self) -> tuple[str, ...]:
        """Names of the tools of which memory of the computer has a copy, the least recently used first."""
        return tuple(block.name for block in tuple(self._in_memory))

    def __contains__(self, tool: Tool) -> bool:
        return id(tool.module) in self._blocks

    def add(self, tool: Tool) -> None:
        """Takes over the weights of a tool, which are on the CPU. Tools without weights need no place.

        Raises:
            ToolboxError: If it does not fit into the limit, or shares weights with another tool.
        """
        if tool.module is None or tool in self:
            return
        block = WeightBlock(tool.name, tool.module)
        if not block.nbytes:
            return
        if block.nbytes > self.max_bytes:
            raise ToolboxError(
                f"tool {tool.name!r} has {block.nbytes / 1e9:.3g} GB of weights, and the limit for the "
                f"memory of {self.device} is {self.max_bytes / 1e9:.3g} GB: raise the limit."
            )
        for other in self._blocks.values():
            if not block.identities.isdisjoint(other.identities):
                raise ToolboxError(
                    f"tools {other.name!r} and {tool.name!r} share weights, so that neither can leave the "
                    "memory alone: give each its own, or set no memory limit."
                )
        self._loader.submit(self._admit, block).result()
        self._blocks[id(tool.module)] = block

    def remove(self, tool: Tool) -> None:
        """Gives a tool its weights back, on the CPU, in memory of their own."""
        block = self._blocks.pop(id(tool.module), None)
        if block is None:
            return
        with self._changed:
            while block.users:
                self._changed.wait()
            self._evict(block)
        self._loader.submit(self._in_memory.pop, block, None).result()
        block.detach()

    def prefetch(self, tool: Tool) -> None:
        """Begins to copy the weights of a tool to the device, if the tools that run leave room for them."""
        block = self._blocks.get(id(tool.module))
        if block is not None:
            with self._changed:
                self._start(block)

    @contextmanager
    def use(self, tool: Tool) -> Iterator[None]:
        """Holds the weights of a tool on the device while the context is open.

        A thread may hold one tool at a time: with two, threads could wait for each other.

        Raises:
            OutOfMemoryError: If the device has less memory than the limit allows for.
            OSError: If the temporary file cannot be written or read.
        """
        block = self._blocks.get(id(tool.module))
        if block is None:
            yield
            return
        with self._changed:
            while not self._start(block):
                self._changed.wait()
            block.users += 1
            copy = self._on_device[block]
        try:
            self._arrive(block, copy)
            yield
        finally:
            with self._changed:
                block.users -= 1
                self._changed.notify_all()

    def _start(self, block: WeightBlock) -> bool:
        """Begins a copy unless there is one; returns False if the tools that run leave no room."""
        if block in self._on_device:
            if not block.changed_at_home:
                self._on_device.move_to_end(block)
                return True
            self._evict(block)
        excess = block.nbytes + sum(other.nbytes for other in self._on_device) - self.max_bytes
        victims: list[WeightBlock] = []
        for other in self._on_device:
            if excess > 0 and not other.users:
                victims.append(other)
                excess -= other.nbytes
        if excess > 0:
            return False
        for victim in victims:
            self._evict(victim)
        block.expect_copy()
        self._on_device[block] = self._loader.submit(self._copy_to_device, block)
        return True

    def _evict(self, block: WeightBlock) -> None:
        copy = self._on_device.pop(block, None)
        if copy is not None:
            copy.cancel()
            block.go_home()

    def _arrive(self, block: WeightBlock, copy: Future[Tensor]) -> None:
        """Waits for the copy, as does the work that is queued on the device, and makes the tool use it."""
        try:
            data = copy.result()
        except BaseException:  # also an interruption: the next use begins a copy of its own
            with self._changed:
                if self._on_device.get(block) is copy:
                    self._evict(block)
            raise
        if self._stream is not None:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_stream(self._stream)
            data.record_stream(stream)  # its memory is not used again before this work has ended
        with self._changed:
            block.move_to(data)

    def _copy_to_device(self, block: WeightBlock) -> Tensor:
        """Runs in the loader: returns a copy on the device, which on CUDA may still be on its way."""
        home = self._bring_to_memory(block)
        with nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
            return home.to(self.device, non_blocking=True, copy=True)

    def _admit(self, block: WeightBlock) -> None:
        """Runs in the loader: gives new weights their place in memory or in a file."""
        block.settle(block.gather())
        if block.nbytes > self.max_host_bytes:
            block.settle(block.to_file())
        else:
            self._make_room(block.nbytes)
            self._pin(block)

    def _bring_to_memory(self, block: WeightBlock) -> Tensor:
        """Runs in the loader: returns the weights, in memory if they may take so much."""
        if block in self._in_memory:
            self._in_memory.move_to_end(block)
        elif block.nbytes <= self.max_host_bytes:
            self._make_room(block.nbytes)
            self._pin(block)
        return block.home

    def _pin(self, block: WeightBlock) -> None:
        pinned = torch.empty(block.nbytes, dtype=torch.uint8, pin_memory=self._stream is not None)
        with self._changed:
            block.settle(pinned.copy_(block.home))
        self._in_memory[block] = None

    def _make_room(self, nbytes: int) -> None:
        """Runs in the loader: writes the least recently used tools to files until there is room."""
        while nbytes + sum(block.nbytes for block in self._in_memory) > self.max_host_bytes:
            oldest = next(iter(self._in_memory))
            with self._changed:
                oldest.settle(oldest.to_file())
            del self._in_memory[oldest]
