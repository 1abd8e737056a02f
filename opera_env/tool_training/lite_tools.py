"""The tools of the ``lite`` toolbox: degradation, network, training data and training settings of each.

This is the only file that lists these tools. For each degradation, the toolbox has as many tools as that of
the paper, from two families of networks instead of Restormer, X-Restormer and SwinIR. Each is trained on
data like those of its original; none has seen the degradations of the benchmark.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.random import Generator

from opera_env.degradations import degrade
from opera_env.degradations.camera import Jpeg, LowResolution
from opera_env.tool_training.losses import ZeroReference
from opera_env.tool_training.original_data import (
    CameraShake,
    GaussianNoise,
    IndependentHaze,
    LayeredRain,
    LensBlur,
    RandomCascade,
    VeiledRain,
)
from opera_env.tool_training.patches import DegradeFn, Image, Pair


@dataclass(frozen=True)
class ToolSpec:
    """The network and the training settings of one tool.

    Attributes:
        name: Name of the tool, ``family.task``.
        degradation: The degradation that the tool removes.
        net: Kind of network, a key of :data:`opera_env.tools.nets.NETS`.
        options: Keyword arguments of the network.
        training_data: Degrades the images on which the tool is trained; None for the degradation as the
            benchmark draws it.
        steps: Number of training steps; 0 for a tool without weights.
        batch_size: Patches per step.
        patch_size: Side of a clean training patch in pixels.
        margin: Width in pixels of the margin that is degraded together with the patch and then cut off. It
            should be as wide as the degradation reaches.
        lr: Peak learning rate.
        lpips_weight: Weight of LPIPS in the loss; the Charbonnier loss has weight 1.
        init_from: Name of the tool whose trained weights are the initial weights; None to initialise them
            randomly.
        initial_tool: Name of the tool of a toolbox, ``lite`` unless the settings of the training name
            another one, whose weights are the initial weights.
        more_degradations: Further degradations that it removes.
        loss_reduction: Side, in pixels, of the cells whose means the Charbonnier loss compares.
        zero_reference: Weights of the terms of the loss that need no reference, for networks with tone
            curves.
    """

    name: str
    degradation: str
    net: str = "unet"
    options: Mapping[str, Any] = field(default_factory=dict)
    training_data: DegradeFn | None = None
    steps: int = 0
    batch_size: int = 8
    patch_size: int = 64
    margin: int = 48
    lr: float = 2e-3
    lpips_weight: float = 0.0
    init_from: str | None = None
    initial_tool: str | None = None
    more_degradations: tuple[str, ...] = ()
    loss_reduction: int = 1
    zero_reference: ZeroReference | None = None

    @property
    def degradations(self) -> frozenset[str]:
        """All degradations that the tool removes."""
        return frozenset({self.degradation, *self.more_degradations})

    @property
    def flip_only(self) -> bool:
        """Whether patches are flipped but not rotated, because haze is densest at the top of an image."""
        return "haze" in self.degradations

    def degrade(self, image: Image, rng: Generator) -> Image | Pair:
        """Degrades a clean image as in the training of the tool; a :data:`DegradeFn`."""
        if self.training_data is not None:
            return self.training_data(image, rng)
        return degrade(image, (self.degradation,), rng)[0]


def _denoiser(family: str, sigma: float, steps: int, init_from: str | None = None) -> ToolSpec:
    """Returns the spec of a denoiser for Gaussian noise of one standard deviation in grey levels."""
    return ToolSpec(
        f"{family}.denoise_{sigma:.0f}",
        "noise",
        family,
        training_data=GaussianNoise(sigma, sigma),
        steps=steps,
        margin=0,
        lr=2e-3 if init_from is None else 1e-3,
        init_from=init_from,
    )


LITE_TOOLS: tuple[ToolSpec, ...] = (
    ToolSpec("unet.denoise", "noise", training_data=GaussianNoise(0, 55), steps=16_000, margin=0, lr=1e-3),
    *(_denoiser("unet", sigma, 4_000, init_from="unet.denoise") for sigma in (15, 25, 50)),
    _denoiser("nafnet", 15, 4_000, init_from="nafnet.denoise_25"),
    _denoiser("nafnet", 25, 12_000),
    _denoiser("nafnet", 50, 4_000, init_from="nafnet.denoise_25"),
    ToolSpec(
        "nafnet.derain",
        "rain",
        "nafnet",
        options={"width": 32},
        training_data=VeiledRain(),
        steps=16_000,
        margin=32,
    ),
    ToolSpec("unet.derain", "rain", training_data=LayeredRain(), steps=20_000, margin=32),
    ToolSpec(
        "unet.dehaze",
        "haze",
        options={"global_context": True},
        training_data=IndependentHaze(),
        steps=14_000,
        patch_size=128,
        batch_size=4,
        lr=1e-3,
    ),
    ToolSpec(
        "unet.defocus_deblur", "defocus_blur", training_data=CameraShake(), steps=20_000, margin=32, lr=1e-3
    ),
    ToolSpec(
        "nafnet.defocus_deblur", "defocus_blur", "nafnet", training_data=LensBlur(), steps=12_000, margin=8
    ),
    ToolSpec(
        "unet.motion_deblur", "motion_blur", training_data=CameraShake(), steps=24_000, margin=32, lr=1e-3
    ),
    ToolSpec(
        "unet.super_resolution",
        "low_resolution",
        options={"widths": (48, 64), "blocks": 3, "unshuffle": 1, "scale": 4},
        training_data=LowResolution(),
        steps=16_000,
        batch_size=4,
        patch_size=128,
        margin=16,
    ),
    ToolSpec(
        "unet.super_resolution_lpips",
        "low_resolution",
        options={"unshuffle": 1, "scale": 4},
        training_data=RandomCascade(),
        steps=12_000,
        batch_size=4,
        patch_size=128,
        margin=16,
        lpips_weight=0.5,
    ),
    ToolSpec("unet.dejpeg", "jpeg", training_data=Jpeg(40), steps=16_000, margin=16, lr=1e-3),
    ToolSpec("brighten.gamma_correction", "low_light", "gamma", options={"gamma": 1.5}),
    ToolSpec("brighten.constant_shift", "low_light", "shift", options={"levels": 40.0}),
)

STUDY_TOOLS = ("nafnet.denoise_50", "nafnet.derain", "unet.dehaze", "unet.defocus_deblur")
"""The counterparts of the four tools of the paper's study: those for noise of sigma 50, rain and haze, and
X-Restormer for blur, which was trained on camera shake. Source: appendix B.1 of the paper."""
