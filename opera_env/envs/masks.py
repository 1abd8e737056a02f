"""Which actions of the stepwise environment are allowed, inside of the environment and outside of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from opera_env.tools import Toolbox
from opera_env.types import Canvas, Observation, Plan


def action_mask(
    toolbox: Toolbox, plan: Plan, input_size: Canvas, canvas: Canvas, mask_upscale: bool
) -> NDArray[np.bool_]:
    """Returns which actions of the stepwise environment are allowed.

    STOP and tools that keep the size of an image are always allowed. With ``mask_upscale``, a tool that
    upscales is forbidden once the image has the size of its canvas, because it cannot enlarge the image any
    more: its result is resized back.

    Args:
        toolbox: The tools, in the order of the actions.
        plan: The tools applied so far.
        input_size: Height and width of the input image in pixels.
        canvas: Height and width at which the image is scored, in pixels.
        mask_upscale: Whether any tool is forbidden at all.

    Returns:
        bool (N + 1,) for N tools; STOP comes first.

    Example:
        >>> toolbox = Toolbox.load("lite").subset(["unet.denoise", "unet.super_resolution"])
        >>> action_mask(toolbox, (), (32, 32), (128, 128), mask_upscale=True).tolist()
        [True, True, True]
        >>> plan = ("unet.super_resolution",)
        >>> action_mask(toolbox, plan, (32, 32), (128, 128), mask_upscale=True).tolist()
        [True, True, False]
    """
    mask = np.ones(len(toolbox) + 1, np.bool_)
    if mask_upscale:
        size = input_size
        for name in plan:
            if toolbox[name].upscales(size, canvas):
                size = (size[0] * toolbox[name].scale, size[1] * toolbox[name].scale)
        for action, tool in enumerate(toolbox, start=1):
            mask[action] = tool.scale == 1 or tool.upscales(size, canvas)
    return mask


def observed_action_mask(
    toolbox: Toolbox, observation: Observation, mask_upscale: bool
) -> NDArray[np.bool_]:
    """Returns the mask that the environment gives where an agent has this observation, bool (N + 1,)."""
    canvas = observation.image.shape[-2], observation.image.shape[-1]
    return action_mask(toolbox, observation.used, observation.input_size or canvas, canvas, mask_upscale)
