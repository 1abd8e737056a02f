"""The toolbox: the ordered list of tools that plans can name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from opera_env.errors import ToolboxError, ToolboxMismatchError, UnknownToolError
from opera_env.hub import HubMixin, pretrained_folder
from opera_env.tools.fingerprint import compute_fingerprint, compute_signature, weights_version
from opera_env.tools.manifest import load_tools, save_tools
from opera_env.tools.paper import PAPER, load_paper_tools
from opera_env.tools.placement import PlacedTools
from opera_env.tools.source import tool_from_source
from opera_env.tools.tool import TOOL_NAME, RestoreFn, Tool

_SHIPPED = Path(__file__).parent / "weights"


_IN_REPOSITORY = "lite-adapted"
"""A toolbox that a clone has and a wheel has not."""


def shipped_toolboxes() -> tuple[str, ...]:
    """Returns the names of the toolboxes that are shipped with the package."""
    return tuple(sorted(path.name for path in _SHIPPED.iterdir() if path.is_dir()))


class Toolbox(PlacedTools, HubMixin):
    """An ordered list of restoration tools; action ``i + 1`` of an environment is the tool ``names[i]``.

    Environments, scorers and the execution update hold references to one toolbox. When its networks are
    trained, all of them use the trained networks from then on.

    Args:
        tools: The tools, in order; their names must differ.
        device: Device that holds and runs the networks.

    Raises:
        ToolboxError: If a name is malformed or occurs twice, or a size of a tool is out of range.

    Example:
        >>> toolbox = Toolbox.load("lite").subset(["unet.denoise"])
        >>> toolbox.add("mine.invert", lambda image: 1 - image).names
        ('unet.denoise', 'mine.invert')
    """

    def __init__(self, tools: Iterable[Tool] = (), device: torch.device | str = "cpu") -> None:
        self._tools: dict[str, Tool] = {}
        super().__init__(device)
        self._fingerprint: tuple[tuple[object, ...], str] | None = None
        self._origin: tuple[str, tuple[object, ...]] | None = None
        for tool in tools:
            self._insert(tool)

    def __getstate__(self) -> dict[str, Any]:
        # A version has identities of this process.
        return super().__getstate__() | {"_origin": self.origin, "_fingerprint": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state | {"_origin": None})
        if state["_origin"] is not None:
            name, is_current = state["_origin"]
            self._origin = (name, weights_version(self) if is_current else ())

    @classmethod
    def load(
        cls,
        name_or_folder: str | Path = "lite",
        device: torch.device | str = "cpu",
        trust_code: bool = False,
    ) -> Toolbox:
        """Loads a toolbox that is shipped with the package, or one that :meth:`save` has written.

        Args:
            name_or_folder: Name of a shipped toolbox, such as ``"lite"`` or ``"lite-cotrained"``,
                ``"paper"`` for the official networks of the paper, or a folder. A name takes precedence
                over a folder of the same name; ``"./lite"`` and a ``Path`` are always folders.
            device: Device that holds and runs the networks.
            trust_code: Whether code may run that a folder names: networks of your own, which were added as
                "module:attribute", programs (TorchScript, torch.export, ONNX), and served tools. Folders
                without them need no trust.

        Returns:
            A new toolbox: two calls never share networks.

        Raises:
            UntrustedCodeError: If the folder names code and ``trust_code`` is False; the message says what
                would run.
            ToolboxError: If there is no such toolbox, or its manifest cannot be read.
            MissingWeightsError: If a weight file is missing; the message names the command that gets it.
            WeightsIntegrityError: If a weight file does not have the hash that is recorded for it.
        """
        if str(name_or_folder) == PAPER:
            toolbox = cls(load_paper_tools(), device)
            toolbox._set_origin(PAPER)
            return toolbox
        is_name = isinstance(name_or_folder, str) and name_or_folder in shipped_toolboxes()
        folder = (_SHIPPED if is_name else Path()) / name_or_folder
        is_shipped = folder.resolve().parent == _SHIPPED.resolve()
        if name_or_folder == _IN_REPOSITORY and not folder.is_dir():
            raise ToolboxError(
                f"the toolbox {_IN_REPOSITORY!r} is in the repository alone, since only studies need it: "
                "install the package from a clone, or train it: opera-env tools train --help."
            )
        if not folder.is_dir():
            raise ToolboxError(
                f"no toolbox {str(name_or_folder)!r}: expected one of {', '.join(shipped_toolboxes())}, "
                f"{PAPER}, or a folder that Toolbox.save() has written."
            )
        toolbox = cls(load_tools(folder, trust_code, is_shipped), device)
        toolbox._set_origin(name_or_folder)
        return toolbox

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | Path,
        *,
        revision: str | None = None,
        device: torch.device | str = "cpu",
        trust_code: bool = False,
        endpoint: str | None = None,
    ) -> Toolbox:
        """Loads a toolbox from the Hugging Face hub, or from whatever :meth:`load` takes.

        Args:
            name_or_folder: A repository, ``owner/name``, or what :meth:`load` takes; a folder takes
                precedence.
            revision: Branch, tag or commit of the repository.
            device: See :meth:`load`.
            trust_code: See :meth:`load`.
            endpoint: Address of the hub.

        Raises:
            HubError: If there is no such repository, or it holds something else.
            OperaError: As :meth:`load` does.
        """
        return cls.load(pretrained_folder(name_or_folder, revision, endpoint), device, trust_code)

    def save_pretrained(self, folder: Path) -> None:
        self.save(folder)

    def save(self, folder: Path | str, dtype: torch.dtype = torch.float32) -> None:
        """Writes the weights and the manifest to a folder.

        If the process is killed while writing, the folder still holds a complete toolbox: the previous one
        or the new one.

        Args:
            folder: Created if it does not exist. A toolbox that is already there is replaced; other files
                in the folder stay.
            dtype: Data type of the stored weights; float16 halves the size of the files.

        Raises:
            ToolboxError: If a tool was added as a function or module object: the folder could not say how
                to make it again. Add it as "module:attribute".
        """
        save_tools(tuple(self), Path(folder), dtype)
        if dtype == torch.float32:  # else the folder has rounded weights
            self._set_origin(folder)

    def add(
        self,
        name: str,
        restore: RestoreFn | str | Path,
        *,
        options: Mapping[str, Any] | None = None,
        weights: Mapping[str, Tensor] | str | Path | None = None,
        scale: int | None = None,
        multiple: int | None = None,
        halo: int | None = None,
        degradations: Iterable[str] = (),
    ) -> Toolbox:
        """Adds a tool: a function, a module, the name of one, or the file of a trained network.

        The network maps float32 (B, 3, H, W), RGB and nominally in [0, 1], to
        (B, 3, scale * H, scale * W); see :class:`~opera_env.tools.Tool`. A module is moved to the device of
        the toolbox, put into evaluation mode, and may be called from several threads at once; a function is
        called from one thread at a time. The execution update trains the parameters of modules; functions
        may occur in its plans if their operations are differentiable.

        Add all tools before you make environments or train agents: each changes the action space.

        Args:
            name: Name in plans, by convention ``family.task``: letters, digits, dots, dashes, underscores.
            restore: A function, a module, or the path of a file: a TorchScript module, a program of
                ``torch.export``, an ONNX file, or a checkpoint of Restormer, X-Restormer, PromptIR or any
                architecture that spandrel recognises. Or "module:attribute", a class of modules, a module
                or a function of your own. Or "http://127.0.0.1:PORT", a tool that ``opera-env serve-tool``
                serves on this machine. What is added by file, name or address can be saved, and so reach
                every command and trainer.
            options: Keyword arguments of a class or function that is named as "module:attribute", in JSON
                types; ``{"timeout": SECONDS}`` of a served tool.
            weights: Weights of a module that is named so: its ``state_dict()``, or a file of it.
            scale: Factor by which the network enlarges an image. Default: what the file says of it,
                otherwise 1. Give it for a checkpoint of X-Restormer, which does not say it.
            multiple: The network accepts heights and widths that are multiples of this number of pixels;
                images of other sizes are padded and the results cropped. Default: what the file says of it,
                otherwise 1. A network that takes one size only needs none.
            halo: Receptive-field radius in pixels: distance beyond which an input pixel cannot change an
                output pixel. Photographs that are too large for the memory are restored in tiles that
                overlap by the halo; without it, a default overlap is used, and seams may show for networks
                with a larger receptive field. A network whose result depends on statistics of the whole
                image should implement :class:`opera_env.tools.global_context.GlobalContextNet`.
            degradations: Names of the degradations that the tool is meant to remove, such as ``"noise"``;
                see :data:`opera_env.degradations.DEGRADATIONS`.

        Returns:
            The toolbox itself, so that calls can be chained.

        Raises:
            ToolboxError: If the name is malformed or already used, the file holds no network, or the
                network cannot be imported and built.
            EndpointError: If no tool is served at the address.

        Example:
            >>> from torch import nn
            >>> network = nn.Conv2d(3, 3, 3, padding=1)
            >>> Toolbox().add("mine.smooth", network, halo=1, degradations=["noise"]).names
            ('mine.smooth',)
        """
        tool = tool_from_source(name, restore, options, weights, scale)
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
        if not TOOL_NAME.fullmatch(tool.name):
            raise ToolboxError(
                f"{tool.name!r} is not a valid tool name: use letters, digits, dots, dashes and "
                "underscores."
            )
        if tool.name in self._tools:
            raise ToolboxError(f"the toolbox already has a tool {tool.name!r}: choose another name.")
        if tool.scale < 1 or tool.multiple < 1 or tool.minimum < 1:
            raise ToolboxError(f"tool {tool.name!r}: scale, multiple and minimum must be at least 1.")
        if tool.halo is not None and tool.halo < 0:
            raise ToolboxError(f"tool {tool.name!r}: halo cannot be negative.")
        self._place(tool)
        self._tools[tool.name] = tool

    def subset(self, names: Sequence[str]) -> Toolbox:
        """Returns a toolbox of some of the tools, in the given order; both toolboxes share the networks.

        Raises:
            UnknownToolError: If the toolbox has no tool of one of the names.
        """
        subset = Toolbox()
        subset._share_placement(self)
        for name in names:
            subset._insert(self[name])
        return subset

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tools, in order; action ``i + 1`` is ``names[i]``."""
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
    def origin(self) -> tuple[str, bool] | None:
        """The name or folder from which the tools were loaded or to which they were last saved.

        The second value tells whether they still are what is there, as far as this process knows: it is
        False after tools were added or trained. None if the tools have no name.
        """
        if self._origin is None:
            return None
        name, version = self._origin
        return name, version == weights_version(self)

    def _set_origin(self, name: str | Path) -> None:
        self._origin = (str(name), weights_version(self))

    @property
    def signature(self) -> str:
        """Digest of the names, order and scales of the tools.

        Trained agents record it: an agent works with any toolbox of the same signature.
        """
        return compute_signature(self)

    @property
    def fingerprint(self) -> str:
        """Digest of the signature, the networks, their weights, and a precision other than float32.

        It is part of every cache key, and results record it. It is computed again only after a weight has
        changed. A plain function enters the digest by its identity, so its results are cached within one
        process only.
        """
        version = weights_version(self)
        if self._fingerprint is None or self._fingerprint[0] != version:
            self._fingerprint = (version, compute_fingerprint(self, self.precision))
        return self._fingerprint[1]

    def load_weights(self, folder: Path | str, trust_code: bool = False) -> Toolbox:
        """Replaces the weights of this toolbox, in place, by those of a saved toolbox.

        Everything that holds this toolbox uses the new weights at once. A network that was saved with other
        options, such as one with a tone curve, replaces the present network.

        Args:
            folder: Name of a shipped toolbox, or a folder, as for :meth:`load`.
            trust_code: Whether code that the folder names may run, as for :meth:`load`.

        Returns:
            The toolbox itself.

        Raises:
            UntrustedCodeError: If the folder names code and ``trust_code`` is False.
            ToolboxMismatchError: If the tools of the other toolbox differ in names, order, scales or kinds
                of network.
            ToolboxError: If there is no such toolbox, or its manifest cannot be read.
            MissingWeightsError: If a weight file that the manifest lists is missing.
            WeightsIntegrityError: If a weight file does not have the hash that the manifest records.
        """
        other = Toolbox.load(folder, self.home_device, trust_code)
        expected, found = (
            [(tool.name, tool.scale, tool.net and tool.net[0]) for tool in toolbox]
            for toolbox in (self, other)
        )
        if found != expected:
            raise ToolboxMismatchError(
                f"{folder}: expected the tools {', '.join(self.names)} with the same kinds of network, "
                f"found {', '.join(other.names)}: load it as a toolbox of its own with Toolbox.load."
            )
        for tool, new in zip(self, other, strict=True):
            if json.dumps(tool.net, default=str) != json.dumps(new.net, default=str):
                self._replace_place(tool, new)
                self._tools[tool.name] = new
            elif tool.module is not None and new.module is not None:
                tool.module.load_state_dict(new.module.state_dict())
        self._use_precision(self.precision)
        self.invalidate_fingerprint()
        self._set_origin(folder)
        return self

    def invalidate_fingerprint(self) -> None:
        """Marks the weights as changed, so that :attr:`fingerprint` is computed again.

        Needed only after weights were written through ``parameter.data``; other changes are noticed.
        """
        self._fingerprint = None
