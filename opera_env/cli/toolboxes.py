"""Loads toolboxes as the options of a command say: device, limit of its memory, precision."""

from __future__ import annotations

from typing import Protocol

import torch

from opera_env.devices import resolve_device
from opera_env.errors import SettingError
from opera_env.tools import Toolbox
from opera_env.tools.residency import Residency


class ToolboxOptions(Protocol):
    """The options that commands with tools share."""

    @property
    def device(self) -> str: ...

    @property
    def precision(self) -> str: ...

    @property
    def max_gpu_memory(self) -> float | None: ...


class ToolboxLoader:
    """Loads toolboxes that share a device and the limit of its memory.

    Args:
        options: The options of the command.

    Raises:
        DeviceError: If there is no such device.
        SettingError: If a limit of its memory is given, and the device is the CPU.
    """

    def __init__(self, options: ToolboxOptions) -> None:
        self.device = resolve_device(options.device)
        self._precision: torch.dtype = getattr(torch, options.precision)
        self._residency: Residency | None = None
        if options.max_gpu_memory is not None:
            if self.device == "cpu":
                expected = "a device with memory of its own, such as --device cuda, found cpu"
                raise SettingError("max-gpu-memory", f"{options.max_gpu_memory:g}", expected)
            self._residency = Residency(self.device, int(options.max_gpu_memory * 1e9))

    def load(self, name: str, trust_code: bool) -> Toolbox:
        """Loads a toolbox; the arguments and errors are those of :meth:`Toolbox.load`."""
        if self._residency is None:
            toolbox = Toolbox.load(name, self.device, trust_code)
        else:  # on the CPU first: all tools together may not fit into the device
            toolbox = Toolbox.load(name, trust_code=trust_code).limit_memory(self._residency)
        return toolbox if self._precision == torch.float32 else toolbox.set_precision(self._precision)
