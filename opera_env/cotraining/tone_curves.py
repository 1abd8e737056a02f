"""Trainable tone curves for brightening tools, which have no parameters otherwise."""

from __future__ import annotations

from dataclasses import replace

from opera_env.tools import Tool, Toolbox
from opera_env.tools.nets import build_net
from opera_env.tools.nets.brighten import Brightener


def add_tone_curves(toolbox: Toolbox) -> Toolbox:
    """Returns a toolbox whose brightening tools have a trainable tone curve.

    Before training the curves are the identity. The signature stays the same, so that agents work with
    either toolbox.

    Args:
        toolbox: Stays as it is; the new toolbox shares its other tools.

    Example:
        >>> toolbox = Toolbox.load("lite").subset(["brighten.gamma_correction"])
        >>> len(toolbox["brighten.gamma_correction"].parameters)
        0
        >>> len(add_tone_curves(toolbox)["brighten.gamma_correction"].parameters)
        4
    """
    return Toolbox([_add_tone_curve(tool) for tool in toolbox], toolbox.device)


def _add_tone_curve(tool: Tool) -> Tool:
    if tool.net is None or not isinstance(tool.restore, Brightener) or tool.restore.tone is not None:
        return tool
    kind, options = tool.net
    options = {**options, "tone": True}
    return replace(tool, restore=build_net(kind, options).eval(), net=(kind, options))
