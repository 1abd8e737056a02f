"""Where and how the networks of a toolbox run: device, limit of its memory, precision."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Self

import torch

from opera_env.errors import ToolboxError
from opera_env.tools.precision import Precision
from opera_env.tools.residency import Residency
from opera_env.tools.tool import Tool


class PlacedTools(ABC):
    """The part of a toolbox that knows where its networks are.

    Args:
        device: Device that holds and runs the networks.

    Attributes:
        device: As above.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self._residency: Residency | None = None
        self._precision: Precision | None = None

    def __getstate__(self) -> dict[str, Any]:
        if self._residency is not None:
            raise ToolboxError(
                "a toolbox with a memory limit cannot be copied: call toolbox.to(device) before, or load "
                "it where it is needed."
            )
        return vars(self) | {"_precision": self.precision}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._use_precision(state["_precision"])

    @abstractmethod
    def __iter__(self) -> Iterator[Tool]: ...

    @abstractmethod
    def invalidate_fingerprint(self) -> None:
        """Marks the weights, or the precision, as changed."""

    @property
    def home_device(self) -> torch.device:
        """The device on which weights lie while no tool runs."""
        return self.device if self._residency is None else torch.device("cpu")

    @property
    def residency(self) -> Residency | None:
        """What decides which tools are on the device; None if all of them always are."""
        return self._residency

    def to(self, device: torch.device | str) -> Self:
        """Moves all networks to a device, without a limit of memory, and returns the toolbox itself."""
        if self._residency is not None:
            for tool in self:
                self._residency.remove(tool)
            self._residency = None
        self.device = torch.device(device)
        for tool in self:
            if tool.module is not None:
                tool.module.to(self.device)
        self._use_precision(self.precision)
        return self

    def limit_memory(self, residency: Residency) -> Self:
        """Keeps only the tools in use on a device, within a limit of its memory.

        Tools that are run by an :class:`opera_env.execution.Executor`, as all plans are, come to the device
        when they are needed. Outside of it, call them within ``with toolbox.running(tool)``.

        Args:
            residency: The device and the limit. Several toolboxes may share one.

        Returns:
            The toolbox itself.

        Raises:
            ToolboxError: If a tool alone is larger than the limit, or two tools share weights. The toolbox
                is then on the CPU, without a limit.
            OSError: The same, if tools do not fit into memory and a temporary file cannot be written.

        Example:
            >>> from opera_env.tools import Toolbox
            >>> toolbox = Toolbox.load("lite").limit_memory(Residency("cpu", max_bytes=8 * 2**20))
            >>> toolbox.residency.resident
            ()
        """
        self.to("cpu")
        self.device, self._residency = residency.device, residency
        try:
            for tool in self:
                residency.add(tool)
        except (ToolboxError, OSError):
            self.to("cpu")
            raise
        self._use_precision(self.precision)
        return self

    @property
    def precision(self) -> torch.dtype:
        """Data type in which networks compute; float32 by default."""
        return torch.float32 if self._precision is None else self._precision.dtype

    def set_precision(self, dtype: torch.dtype) -> Self:
        """Runs plans at reduced precision, except for tools that it makes inaccurate.

        Weights stay float32, and so do images between tools. A tool whose result differs too much stays in
        float32, with a warning; see :data:`opera_env.tools.precision.MIN_AGREEMENT`. The fingerprint of the
        toolbox changes, as do results. Training is not affected.

        Args:
            dtype: ``torch.float32``, ``torch.bfloat16`` or ``torch.float16``.

        Returns:
            The toolbox itself.

        Raises:
            ToolboxError: If it is another data type.
        """
        self._use_precision(dtype)
        self.invalidate_fingerprint()
        return self

    @contextmanager
    def running(self, tool: Tool) -> Iterator[None]:
        """Holds a tool ready to run on the device, at the precision, while the context is open."""
        with (
            nullcontext() if self._residency is None else self._residency.use(tool),
            nullcontext() if self._precision is None else self._precision.context(tool),
        ):
            yield

    def _use_precision(self, dtype: torch.dtype) -> None:
        """Tests all tools again at their next use: on a new device, or with new weights."""
        self._precision = None if dtype == torch.float32 else Precision(dtype, self.device)

    def _place(self, tool: Tool) -> None:
        """Brings a network to its device, in the layout and the mode in which it runs."""
        if tool.module is None or (self._residency is not None and tool in self._residency):
            return
        tool.module.to(self.home_device).eval()
        for tensor in (*tool.module.parameters(), *tool.module.buffers()):
            if tensor.dim() == 4:
                tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
        if self._residency is not None:
            self._residency.add(tool)

    def _replace_place(self, old: Tool, new: Tool) -> None:
        """Gives the place of a tool to another one, which is on :attr:`home_device`."""
        if self._residency is not None:
            self._residency.remove(old)
            self._residency.add(new)

    def _share_placement(self, other: PlacedTools) -> None:
        """Takes over device, limit and precision of tools that share their networks with these."""
        self.device, self._residency, self._precision = other.device, other._residency, other._precision
