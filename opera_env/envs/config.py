"""The constructor arguments that all environments share."""

from __future__ import annotations

from dataclasses import dataclass

from opera_env.data import Source
from opera_env.reward import Reward
from opera_env.tools import Toolbox


@dataclass(frozen=True)
class EnvConfig:
    """Constructor arguments of every environment.

    Attributes:
        toolbox: The restoration tools: a toolbox, which is shared and not copied; the name of a shipped
            one; or a folder that ``Toolbox.save`` has written.
        reward: The name of a reward preset, or a reward of your own.
        source: The source of samples: a source, its name as "module:attribute", a folder of clean images,
            or None for the bundled images.
        max_tools: Maximum number of tools in a plan, at least 1.
        obs_size: Height and width of image observations in pixels.
        canvas: Side, in pixels, of the crops of the default source and of a folder, a multiple of 4; None
            for whole images. It has no effect on a source that is passed as an object.
        tool_cost: Cost of each applied tool, in units of R_q, subtracted from the reward.
        device: Device of the tools and metrics, such as "cpu" or "cuda"; "auto" selects a GPU if there is
            one. It has no effect on a toolbox that is passed as an object.
    """

    toolbox: Toolbox | str = "lite"
    reward: Reward | str = "lite"
    source: Source | str | None = None
    max_tools: int = 6
    obs_size: int = 128
    canvas: int | None = 128
    tool_cost: float = 0.0
    device: str = "auto"
