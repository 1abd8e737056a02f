"""Making a tool from a function, a module, a TorchScript file or a checkpoint."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from opera_env.errors import ToolboxError
from opera_env.tools.tool import RestoreFn, Tool

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor


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


def tool_from_source(name: str, source: RestoreFn | str | Path) -> Tool:
    """Makes a tool from any source; see :meth:`opera_env.tools.Toolbox.add`.

    Args:
        name: Name of the tool.
        source: A function, a module, or the path of a TorchScript file or of a checkpoint.

    Raises:
        ToolboxError: If the source is neither callable nor an existing file, or the file holds no network
            with three input channels.
    """
    if not isinstance(source, str | Path):
        if not callable(source):
            raise ToolboxError(f"tool {name!r}: expected a function, a module or a path, found {source!r}.")
        return Tool(name, source)
    path = Path(source)
    if not path.is_file():
        raise ToolboxError(f"tool {name!r}: no file at {path}: give the path of a trained network.")
    try:
        return _load_torchscript(name, path) if _is_torchscript(path) else _load_spandrel(name, path)
    except ToolboxError:
        raise
    except Exception as error:  # torch and spandrel raise errors of many classes for damaged files
        reason = f"{type(error).__name__}: {error}"
        raise ToolboxError(
            f"tool {name!r}: {path} cannot be read as a checkpoint ({reason}): expected a TorchScript "
            "file, or a checkpoint that spandrel recognises."
        ) from error


def _load_torchscript(name: str, path: Path) -> Tool:
    return Tool(name, torch.jit.load(path, map_location="cpu"))


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in member for member in archive.namelist())


def _load_spandrel(name: str, path: Path) -> Tool:
    # Importing spandrel takes seconds, so it is imported only when a checkpoint is loaded.
    from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError

    try:
        descriptor = ModelLoader(device="cpu").load_from_file(path)
    except UnsupportedModelError as error:
        raise ToolboxError(
            f"tool {name!r}: spandrel does not recognise the network in {path}: build the network, load "
            "its weights and add it as a module."
        ) from error
    if not isinstance(descriptor, ImageModelDescriptor) or descriptor.input_channels != 3:
        raise ToolboxError(
            f"tool {name!r}: expected a network from RGB to RGB, found {descriptor.architecture.name} "
            f"with {descriptor.input_channels} input channels: use a network for colour images."
        )
    descriptor.eval()
    sizes = descriptor.size_requirements
    return Tool(
        name,
        SpandrelNet(descriptor),
        scale=descriptor.scale,
        multiple=sizes.multiple_of,
        minimum=max(1, sizes.minimum),
    )
