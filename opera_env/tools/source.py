"""Making a tool from a function, a module, its name, a program, a checkpoint or an address."""

from __future__ import annotations

import hashlib
import reprlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from opera_env.errors import ToolboxError
from opera_env.files import file_sha256
from opera_env.tools.exported_net import ExportedNet
from opera_env.tools.onnx_net import OnnxNet, read_onnx
from opera_env.tools.own_code import NAME, build_own, check_options, load_state
from opera_env.tools.recognise import tool_from_checkpoint
from opera_env.tools.served.address import is_address
from opera_env.tools.served.client import DEFAULT_TIMEOUT, SERVED, ServedNet
from opera_env.tools.tool import RestoreFn, Tool
from opera_env.weights.tensors import load_checkpoint_tensors

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor


TORCHSCRIPT, EXPORTED, ONNX, SPANDREL = "torchscript", "exported", "onnx", "spandrel"

PROGRAMS = (TORCHSCRIPT, EXPORTED, ONNX)
"""Kinds of network that are programs: running one runs what its author wrote."""

FILE_KINDS = (*PROGRAMS, SPANDREL)
"""Kinds of network that come from files, by their names in manifests."""


class SpandrelNet(nn.Module):
    """A network that spandrel has loaded from a checkpoint; it can be trained.

    The call of spandrel's descriptor clamps the result and disables gradients; this module does neither.

    Args:
        descriptor: What spandrel has loaded.

    Shape:
        float32 (B, 3, H, W) in [0, 1] to float32 (B, 3, scale * H, scale * W).
    """

    def __init__(self, descriptor: ImageModelDescriptor[nn.Module]) -> None:
        super().__init__()
        self.model = descriptor.model
        # Some architectures return several tensors; spandrel's call function selects the image.
        self._call = descriptor._call_fn

    def forward(self, image: Tensor) -> Tensor:
        return self._call(self.model, image)


def tool_from_source(
    name: str,
    source: RestoreFn | str | Path,
    options: Mapping[str, Any] | None = None,
    weights: Mapping[str, Tensor] | str | Path | None = None,
    scale: int | None = None,
) -> Tool:
    """Makes a tool from any source; see :meth:`opera_env.tools.Toolbox.add`.

    Args:
        name: Name of the tool.
        source: A function, a module, the path of a TorchScript file, of a program of ``torch.export``, of
            an ONNX file or of a checkpoint, "module:attribute", or the address of a served tool.
        options: Keyword arguments of a class or function that is named as "module:attribute"; "timeout" of
            a served tool.
        weights: Weights of a module that is named so: its state, or a file of it.
        scale: Factor by which the network enlarges an image, for files that do not say it.

    Raises:
        ToolboxError: If the source is neither callable nor an existing file nor the name of a network, or
            the file holds no network with three input channels.
        WeightsIntegrityError: If the file of weights cannot be read.
    """
    if is_address(source) and weights is None:
        return _tool_from_address(name, str(source), options or {})
    if isinstance(source, str) and NAME.fullmatch(source) and not Path(source).exists():
        return _tool_from_name(name, source, options or {}, weights)
    if options is not None or weights is not None:
        raise ToolboxError(
            f"tool {name!r}: options and weights are for networks that are named as 'module:attribute', "
            f"found {shorten(repr(source), 80)}."
        )
    if not isinstance(source, str | Path):
        if not callable(source):
            raise ToolboxError(f"tool {name!r}: expected a function, a module or a path, found {source!r}.")
        return Tool(name, source)
    path = Path(source)
    if not path.is_file():
        raise ToolboxError(
            f"tool {name!r}: no file at {path}: give the path of a trained network, 'module:attribute', or "
            "an address such as http://127.0.0.1:8100."
        )
    try:
        kind = _find_kind(path)
        if kind == SPANDREL:
            known = tool_from_checkpoint(name, path, scale)
            return known or _tool_from_descriptor(name, load_spandrel(name, path))
        program = load_program(kind, path)
        return _tool_from_program(name, program, (kind, {"sha256": _program_sha256(program, path)}))
    except ToolboxError as error:
        if str(error).startswith("tool "):
            raise
        raise ToolboxError(f"tool {name!r}: {path}: {error}.") from error
    except Exception as error:  # torch and spandrel raise errors of many classes for damaged files
        reason = f"{type(error).__name__}: {error}"
        raise ToolboxError(
            f"tool {name!r}: {path} cannot be read as a checkpoint ({reason}): expected a TorchScript "
            "file, a program of torch.export, an ONNX file, or a checkpoint that spandrel recognises."
        ) from error


def _tool_from_name(
    name: str,
    source: str,
    options: Mapping[str, Any],
    weights: Mapping[str, Tensor] | str | Path | None,
) -> Tool:
    options = check_options(source, options)
    network = build_own(source, options)
    if weights is not None:
        is_file = isinstance(weights, str | Path)
        what = f"tool {name!r}, network {source!r}" + (f" and {weights}" if is_file else "")
        load_state(network, load_checkpoint_tensors(Path(weights)) if is_file else weights, what)
    return Tool(name, network, net=(source, options))


def _tool_from_address(name: str, address: str, options: Mapping[str, Any]) -> Tool:
    network = connect({"address": address, **options})
    served = network.served
    options = {"address": network.address, "timeout": network.timeout, "identity": served.identity}
    return Tool(
        name,
        network,
        scale=served.scale,
        multiple=served.multiple,
        minimum=served.minimum,
        halo=served.halo,
        net=(SERVED, options),
    )


def connect(options: Mapping[str, Any]) -> ServedNet:
    """Connects to a served tool.

    Args:
        options: "address"; "timeout" in seconds, and "identity", what the tool has to say of its weights,
            if they are known.

    Raises:
        ToolboxError: If an option is unknown or unusable, or the tool has other weights.
        EndpointError: If no tool is served there.
    """
    address, timeout, identity = (options.get(key) for key in ("address", "timeout", "identity"))
    timeout = DEFAULT_TIMEOUT if timeout is None else timeout
    if set(options) - {"address", "timeout", "identity"} or not isinstance(address, str):
        raise ToolboxError(
            f"expected the option 'timeout' of a served tool, found {reprlib.repr(dict(options))}"
        )
    if type(timeout) not in (int, float) or not 0 < timeout < 10**6:
        raise ToolboxError(f"expected 'timeout' to be a number of seconds, found {timeout!r}")
    if not isinstance(identity, str | None):
        raise ToolboxError(f"expected 'identity' to be a text, found {reprlib.repr(identity)}")
    return ServedNet(address, timeout, identity)


def load_program(kind: str, path: Path) -> RestoreFn:
    """Loads a program to the CPU.

    Args:
        kind: One of :data:`PROGRAMS`.
        path: The file.

    Raises:
        ToolboxError: If it is not a network from RGB to RGB, or packages for it are not installed.
    """
    if kind == TORCHSCRIPT:
        return torch.jit.load(path, map_location="cpu")
    if kind == ONNX:
        return read_onnx(path)
    return ExportedNet(path.read_bytes())


def _tool_from_program(name: str, program: RestoreFn, net: tuple[str, Mapping[str, Any]]) -> Tool:
    if not isinstance(program, OnnxNet | ExportedNet):
        return Tool(name, program, net=net)
    sizes = program.sizes
    return Tool(name, program, scale=program.scale, multiple=sizes.multiple, minimum=sizes.minimum, net=net)


def _program_sha256(program: RestoreFn, path: Path) -> str:
    """Returns the digest of a program with its weights, which ONNX may keep in files beside its own."""
    return hashlib.sha256(program.data).hexdigest() if isinstance(program, OnnxNet) else file_sha256(path)


def _find_kind(path: Path) -> str:
    """Returns the kind of network that a file holds: one of :data:`FILE_KINDS`."""
    if path.suffix.lower() == ".onnx":  # its content has nothing that would tell it
        return ONNX
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
        if any("/code/" in member for member in members):
            return TORCHSCRIPT
        if any(member.endswith("/models/model.json") for member in members):
            return EXPORTED
    return SPANDREL


def load_spandrel(name: str, source: Path | Mapping[str, Tensor]) -> ImageModelDescriptor[nn.Module]:
    """Loads a network that spandrel recognises.

    Args:
        name: Name of the tool, for error messages.
        source: The file of a checkpoint that the user has named, or its tensors. Spandrel chooses a reader
            by the suffix of a file, so that files of other people are read as tensors first.

    Raises:
        ToolboxError: If spandrel does not recognise the network, or it is not one from RGB to RGB.
    """
    # Importing spandrel takes seconds, so it is imported only when a checkpoint is loaded.
    from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError

    loader = ModelLoader(device="cpu")
    try:
        if isinstance(source, Path):
            descriptor = loader.load_from_file(source)
        else:
            descriptor = loader.load_from_state_dict(dict(source))
    except UnsupportedModelError as error:
        where = f" in {source}" if isinstance(source, Path) else ""
        raise ToolboxError(
            f"tool {name!r}: spandrel does not recognise the network{where}: build the network, load "
            "its weights and add it as a module."
        ) from error
    if not isinstance(descriptor, ImageModelDescriptor) or descriptor.input_channels != 3:
        raise ToolboxError(
            f"tool {name!r}: expected a network from RGB to RGB, found {descriptor.architecture.name} "
            f"with {descriptor.input_channels} input channels: use a network for colour images."
        )
    descriptor.eval()
    return descriptor


def _tool_from_descriptor(name: str, descriptor: ImageModelDescriptor[nn.Module]) -> Tool:
    sizes = descriptor.size_requirements
    return Tool(
        name,
        SpandrelNet(descriptor),
        scale=descriptor.scale,
        multiple=sizes.multiple_of,
        minimum=max(1, sizes.minimum),
        net=(SPANDREL, {"architecture": descriptor.architecture.name}),
    )
