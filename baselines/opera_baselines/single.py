"""One tool on every image: the form in which a network for all degradations is compared with agents."""

from __future__ import annotations

from collections.abc import Sequence

from opera_env.errors import AgentError
from opera_env.tools import Toolbox
from opera_env.types import Decision, Observation


class Single:
    """Plans one tool for every image, whatever its degradations: ``single:unet.denoise``.

    Args:
        toolbox: The tools.
        tool: Name of the tool, which follows the colon in the name of the agent. It may be left out for a
            toolbox of one tool.

    Raises:
        AgentError: If no tool is named and the toolbox does not have exactly one.
        UnknownToolError: If the toolbox has no such tool.

    Example:
        >>> toolbox = Toolbox().add("mine.invert", lambda image: 1 - image)
        >>> Single(toolbox, "mine.invert").plan
        ('mine.invert',)
    """

    closed_loop = False

    def __init__(self, toolbox: Toolbox, tool: str = "") -> None:
        if not tool and len(toolbox) != 1:
            raise AgentError(
                f"'single' plans one tool, and this toolbox has {len(toolbox)}: name the tool, as in "
                f"single:{next(iter(toolbox.names), 'TOOL')}."
            )
        self.plan = (toolbox[tool or toolbox.names[0]].name,)

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        return [Decision(plan=self.plan) for _ in observations]
