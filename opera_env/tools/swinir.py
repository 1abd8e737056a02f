"""The published SwinIR networks, which spandrel defines: configurations, and their receptive fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from opera_env.tools.source import SPANDREL, SpandrelNet
from opera_env.tools.tool import Tool

_MEDIUM: Mapping[str, Any] = {
    "upscale": 1,
    "img_size": 128,
    "window_size": 8,
    "img_range": 1.0,
    "depths": [6] * 6,
    "embed_dim": 180,
    "num_heads": [6] * 6,
    "mlp_ratio": 2,
    "upsampler": "",
    "resi_connection": "1conv",
}
SWINIR: Mapping[str, Mapping[str, Any]] = {
    "denoise": _MEDIUM,
    "dejpeg": _MEDIUM | {"img_size": 126, "window_size": 7, "img_range": 255.0},
    "real_sr_large": _MEDIUM
    | {
        "upscale": 4,
        "img_size": 64,
        "depths": [6] * 9,
        "embed_dim": 240,
        "num_heads": [8] * 9,
        "upsampler": "nearest+conv",
        "resi_connection": "3conv",
    },
}
"""Constructor arguments of spandrel's ``SwinIR`` for the published configurations that the paper uses.

Source: Liang et al., "SwinIR: Image Restoration Using Swin Transformer", ICCV Workshops 2021, and the names
    of its files. Spandrel finds all of them but the sizes of training images in the weights.
"""


def build_swinir(config: Mapping[str, Any]) -> nn.Module:
    """Builds a network with newly initialised weights; the names of its weights are the official ones."""
    # Importing spandrel takes seconds, so it is imported only when it is needed.
    from spandrel.architectures.SwinIR import SwinIR

    return SwinIR(**config)


def swinir_tool(name: str, state: Mapping[str, Tensor], degradations: frozenset[str]) -> Tool:
    """Makes a tool from official weights, or others of the same names.

    Args:
        name: Name of the tool.
        state: The state dict.
        degradations: What the tool is meant to remove.
    """
    from spandrel import ImageModelDescriptor, ModelLoader

    descriptor = ModelLoader(device="cpu").load_from_state_dict(dict(state))
    assert isinstance(descriptor, ImageModelDescriptor)
    descriptor.eval()
    net: Any = descriptor.model
    depths = [len(layer.residual_group.blocks) for layer in net.layers]
    return Tool(
        name,
        SpandrelNet(descriptor),
        scale=descriptor.scale,
        multiple=net.window_size,
        minimum=max(1, descriptor.size_requirements.minimum),
        halo=swinir_halo(depths, net.window_size, descriptor.scale),
        degradations=degradations,
        net=(SPANDREL, {"architecture": descriptor.architecture.name}),
    )


def swinir_halo(depths: list[int], window: int, scale: int) -> int:
    """Returns the receptive-field radius in pixels of the input.

    The first layer of attention reaches across its window. The windows of every further layer are shifted
    by half a window, which also covers the convolutions between the layers.

    Args:
        depths: Number of layers of each group.
        window: Side of a window in pixels.
        scale: Factor by which the image is enlarged.
    """
    last_convolutions = 3 if scale == 1 else 8  # those after enlargement reach less than a pixel each
    return last_convolutions + window - 1 + (window + 1) // 2 * (sum(depths) - 1) + 1
