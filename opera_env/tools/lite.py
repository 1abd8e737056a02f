"""The ``lite`` toolbox: which tools it has, what each is for, and how each is trained.

This is the only file in which these tools are named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from opera_env.errors import UnknownToolError


@dataclass(frozen=True)
class ToolRecipe:
    """One tool of a toolbox, before it is trained.

    Attributes:
        name: ``family.task``, as plans spell it.
        degradations: What it is for.
        net: Kind of network, a key of :data:`opera_env.tools.nets.NETS`.
        options: Arguments of the network.
        steps: Training steps; 0 for a tool without weights.
        batch: Patches per step.
        patch: Side of a training patch in pixels of the clean image.
        margin: Rim around the patch that is degraded with it and then cut off: as wide as
            the degradation reaches.
    """

    name: str
    degradations: tuple[str, ...]
    net: str = "unet"
    options: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 20_000
    batch: int = 8
    patch: int = 64
    margin: int = 48


LITE: tuple[ToolRecipe, ...] = (
    ToolRecipe("unet.denoise", ("noise",), steps=8_000, margin=0),
    ToolRecipe("unet.derain", ("rain",), steps=8_000, margin=32),
    ToolRecipe(
        "unet.dehaze", ("haze",), options={"global_context": True}, steps=10_000, patch=128, batch=4
    ),
    ToolRecipe("unet.defocus_deblur", ("defocus_blur",), steps=14_000, margin=8),
    ToolRecipe("unet.motion_deblur", ("motion_blur",), steps=14_000, margin=32),
    ToolRecipe(
        "unet.super_resolution",
        ("low_resolution",),
        options={"widths": (24, 48, 64), "unshuffle": 1, "scale": 4},
        steps=14_000,
        patch=128,
        margin=16,
    ),
    ToolRecipe("unet.dejpeg", ("jpeg",), steps=14_000, margin=16),
    ToolRecipe("brighten.gamma_correction", ("low_light",), net="gamma", options={"gamma": 1.5}, steps=0),
    ToolRecipe("brighten.constant_shift", ("low_light",), net="shift", options={"levels": 40.0}, steps=0),
)


def lite_recipe(name: str) -> ToolRecipe:
    """Returns the recipe of a tool by its name.

    Raises:
        UnknownToolError: If ``lite`` has no such tool.
    """
    for recipe in LITE:
        if recipe.name == name:
            return recipe
    raise UnknownToolError(name, [recipe.name for recipe in LITE])
