"""The all-in-one tool: one network that is trained on the training mix of all degradations.

It stands for the all-in-one networks of the literature, such as PromptIR, which restore any image in one
pass. It has about as many parameters as the tools of an average plan have together.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from opera_env.degradations import DEGRADATIONS, degrade
from opera_env.degradations.recipes import TRAINING_RECIPES, sample_recipe
from opera_env.tool_training.lite_tools import ToolSpec


def degrade_by_training_mix(image: NDArray[np.uint8], rng: Generator) -> NDArray[np.uint8]:
    """Degrades a clean image by one of the 145 training recipes, drawn as for training agents.

    Args:
        image: uint8 (H, W, 3); H and W are multiples of 4.
        rng: The only source of randomness.

    Returns:
        uint8 (H, W, 3), or (H / 4, W / 4, 3) where the recipe has low resolution.
    """
    return degrade(image, sample_recipe(rng, TRAINING_RECIPES), rng)[0]


ALL_IN_ONE_TOOLS: tuple[ToolSpec, ...] = (
    ToolSpec(
        "unet.all_in_one",
        DEGRADATIONS[0],
        more_degradations=DEGRADATIONS[1:],
        # It enlarges by 4, because a third of the training mix is four times as small as its reference.
        options={"widths": (40, 56, 80, 88), "scale": 4, "global_context": True},
        training_data=degrade_by_training_mix,
        steps=30_000,
        lr=1e-3,
    ),
)
