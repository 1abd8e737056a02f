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
        toolbox: A toolbox to share, the name of a shipped one, or a folder.
        reward: A preset by name, or a reward of one's own.
        source: Where samples come from: a source, a folder of clean photographs, or None
            for the bundled photographs.
        max_tools: Longest plan.
        obs_size: Side of the square uint8 observation in pixels.
        canvas: Side of the crops that the default source cuts, a multiple of 4; None for whole images.
            A source that is given brings its own.
        tool_cost: Taken from the reward per tool applied.
        device: Where tools and metrics run; "auto" takes a GPU if there is one.
    """

    toolbox: Toolbox | str = "lite"
    reward: Reward | str = "lite"
    source: Source | str | None = None
    max_tools: int = 6
    obs_size: int = 128
    canvas: int | None = 128
    tool_cost: float = 0.0
    device: str = "auto"
