"""Gives brighteners something to train."""

from __future__ import annotations

from dataclasses import replace

from opera_env.tools import Tool, Toolbox
from opera_env.tools.nets import build_net
from opera_env.tools.nets.brighten import Brightener


def add_tone_curves(toolbox: Toolbox) -> Toolbox:
    """Returns a toolbox of the same tools, whose brighteners have a tone curve that can be trained.

    The curves change nothing until they are trained, and the signature stays: agents for the one play the
    other. All other tools are taken over as they are.

    Args:
        toolbox: Stays as it is; the new one shares its other tools.

    Example:
        >>> from opera_env.tools import Toolbox
        >>> plain = Toolbox.load("lite").subset(["brighten.gamma_correction"])
        >>> len(plain["brighten.gamma_correction"].parameters)
        0
        >>> len(add_tone_curves(plain)["brighten.gamma_correction"].parameters)
        4
    """
    return Toolbox([_add_tone_curve(tool) for tool in toolbox], toolbox.device)


def _add_tone_curve(tool: Tool) -> Tool:
    if tool.net is None or not isinstance(tool.restore, Brightener) or tool.restore.tone is not None:
        return tool
    kind, options = tool.net
    options = {**options, "tone": True}
    return replace(tool, restore=build_net(kind, options).eval(), net=(kind, options))
