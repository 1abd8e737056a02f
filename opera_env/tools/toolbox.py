"""A toolbox: the explicit, ordered list of tools that plans may name."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from opera_env.errors import ToolboxError, ToolboxMismatchError, UnknownToolError
from opera_env.tools.manifest import load_tools, save_tools
from opera_env.tools.source import tool_from_source
from opera_env.tools.tool import RestoreFn, Tool

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")
_SHIPPED = Path(__file__).parent / "weights"


class Toolbox:
    """The tools of a world, in the order in which actions count them.

    Environments, scorers and the execution update that share a toolbox see the same
    networks: training them changes the world for all.

    Args:
        tools: The tools; names must differ.
        device: Where the networks live and run.

    Example:
        >>> box = Toolbox()
        >>> box.add("mine.invert", lambda image: 1 - image).names
        ('mine.invert',)
    """

    def __init__(self, tools: Iterable[Tool] = (), device: torch.device | str = "cpu") -> None:
        self._tools: dict[str, Tool] = {}
        self.device = torch.device(device)
        self._fingerprint: tuple[tuple[object, ...], str] | None = None
        for tool in tools:
            self._insert(tool)

    @classmethod
    def load(cls, name_or_folder: str | Path = "lite", device: torch.device | str = "cpu") -> Toolbox:
        """Loads a shipped toolbox by name, or one from a folder written by :meth:`save`.

        Raises:
            ToolboxError: If there is no such toolbox, or its manifest cannot be read.
            MissingWeightsError: If a file that the manifest names is absent.
            WeightsIntegrityError: If a file is not the one the manifest describes.
        """
        folder = _SHIPPED / str(name_or_folder)
        if not folder.is_dir():
            folder = Path(name_or_folder)
        if not folder.is_dir():
            shipped = ", ".join(sorted(path.name for path in _SHIPPED.iterdir() if path.is_dir()))
            raise ToolboxError(
                f"no toolbox {str(name_or_folder)!r}: expected one of {shipped}, or a folder "
                "written by Toolbox.save()."
            )
        return cls(load_tools(folder), device)

    def save(self, folder: Path | str, dtype: torch.dtype = torch.float32) -> None:
        """Writes weights and manifest into a folder; a kill at any time leaves a whole toolbox.

        Args:
            folder: Made if absent; a toolbox already there is replaced.
            dtype: Type of the stored weights; float16 halves the size.

        Raises:
            ToolboxError: If a tool was added as a plain function, which cannot be stored.
        """
        save_tools(tuple(self), Path(folder), dtype)

    def add(
        self,
        name: str,
        restore: RestoreFn | str | Path,
        *,
        scale: int | None = None,
        multiple: int | None = None,
        halo: int | None = None,
        degradations: Iterable[str] = (),
    ) -> Toolbox:
        """Adds a tool in one line. Add before you make environments: it changes the signature.

        Args:
            name: How plans will spell it.
            restore: A function or module from float32 (B, 3, H, W) in [0, 1] to
                (B, 3, scale * H, scale * W), or the path of a TorchScript file or of any
                checkpoint that spandrel recognises. Modules may be called from several threads at
                once, functions are not.
            scale: Enlargement; found in a checkpoint by itself, otherwise 1.
            multiple: Sides must be multiples of this; likewise.
            halo: How many pixels around a pixel can change its result. Worth saying: large
                images are cut into tiles that overlap by as much, and by a guess otherwise.
            degradations: What the tool is for.

        Returns:
            The toolbox itself.

        Raises:
            ToolboxError: If the name is taken or malformed, or the file is no network.
        """
        tool = tool_from_source(name, restore)
        self._insert(
            replace(
                tool,
                scale=tool.scale if scale is None else scale,
                multiple=tool.multiple if multiple is None else multiple,
                halo=tool.halo if halo is None else halo,
                degradations=frozenset(degradations),
            )
        )
        return self

    def _insert(self, tool: Tool) -> None:
        if not _NAME.fullmatch(tool.name):
            raise ToolboxError(
                f"a tool cannot be called {tool.name!r}: use letters, digits, dots, dashes and underscores."
            )
        if tool.name in self._tools:
            raise ToolboxError(f"there is a tool {tool.name!r} already: choose another name.")
        if tool.scale < 1 or tool.multiple < 1 or tool.minimum < 1:
            raise ToolboxError(f"tool {tool.name!r}: scale, multiple and minimum must be at least 1.")
        if tool.halo is not None and tool.halo < 0:
            raise ToolboxError(f"tool {tool.name!r}: halo cannot be negative.")
        if tool.module is not None:
            tool.module.to(self.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
            tool.module.eval()
        self._tools[tool.name] = tool

    def subset(self, names: Sequence[str]) -> Toolbox:
        """Returns a toolbox of some of the tools, in the order given; the networks are shared."""
        return Toolbox((self[name] for name in names), self.device)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tools in order; action i + 1 is ``names[i]``."""
        return tuple(self._tools)

    def __getitem__(self, name: str) -> Tool:
        try:
            return self._tools[name]
        except KeyError:
            raise UnknownToolError(name, self.names) from None

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools)

    def __contains__(self, name: object) -> bool:
        return name in self._tools

    @property
    def signature(self) -> str:
        """Digest of names, order and scales: what an agent must have been trained for."""
        rows = [[tool.name, tool.scale] for tool in self]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]

    @property
    def fingerprint(self) -> str:
        """Digest of the weights: part of every cache key, and logged with every result.

        Computed again only after a weight has changed. A tool that is a plain function
        counts by its identity, so its results are cached within one process only.
        """
        version = self._version()
        if self._fingerprint is None or self._fingerprint[0] != version:
            digest = hashlib.sha256(self.signature.encode())
            for tool in self:
                digest.update(tool.name.encode())
                if tool.net is not None:
                    digest.update(json.dumps(tool.net, default=str).encode())
                for key, tensor in _tensors(tool):
                    digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
                    digest.update(
                        tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()
                    )
                if tool.module is None:
                    digest.update(str(id(tool.restore)).encode())
            self._fingerprint = (version, digest.hexdigest()[:16])
        return self._fingerprint[1]

    def load_weights(self, folder: Path | str) -> Toolbox:
        """Takes over the weights of a toolbox written by :meth:`save`, in place; returns itself.

        Whoever shares this toolbox has the new ones at once. A network of other options, such as one
        that was given a tone curve, takes the place of the old one.

        Raises:
            ToolboxMismatchError: If its tools are others, by name, order, scale or kind of network.
            ToolboxError: If there is no toolbox, or its manifest cannot be read.
        """
        other = Toolbox.load(folder, self.device)
        ours, theirs = (
            [(tool.name, tool.scale, tool.net and tool.net[0]) for tool in box] for box in (self, other)
        )
        if ours != theirs:
            raise ToolboxMismatchError(
                f"{folder}: expected the tools {', '.join(self.names)}, of the same networks, found "
                f"{', '.join(other.names)}: load it as a toolbox of its own."
            )
        for tool, new in zip(self, other, strict=True):
            if json.dumps(tool.net, default=str) != json.dumps(new.net, default=str):
                self._tools[tool.name] = new
            elif tool.module is not None and new.module is not None:
                tool.module.load_state_dict(new.module.state_dict())
        self.invalidate_fingerprint()
        return self

    def invalidate_fingerprint(self) -> None:
        """Says that weights have changed; needed only after writing through ``parameter.data``."""
        self._fingerprint = None

    def _version(self) -> tuple[object, ...]:
        """What changes when weights do, without reading them all.

        Torch counts writes in place per tensor, but fused optimizers do not raise the count: so
        the smallest trained parameter of each tool, which a step changes too, is compared by value.
        """
        version: list[object] = [self.names]
        for tool in self:
            tensors = [tensor for _, tensor in _tensors(tool)]
            version += [(id(tensor), 0 if tensor.is_inference() else tensor._version) for tensor in tensors]
            if trained := [tensor for tensor in tensors if tensor.requires_grad]:
                smallest = min(trained, key=Tensor.numel)
                version.append(tuple(smallest.detach().reshape(-1).tolist()))
        return tuple(version)

    def to(self, device: torch.device | str) -> Toolbox:
        """Moves every network to a device; returns the toolbox itself."""
        self.device = torch.device(device)
        for tool in self:
            if tool.module is not None:
                tool.module.to(self.device)
        return self


def _tensors(tool: Tool) -> Iterator[tuple[str, Tensor]]:
    if tool.module is not None:
        yield from tool.module.named_parameters()
        yield from tool.module.named_buffers()
