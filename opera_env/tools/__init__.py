"""Restoration tools and the toolbox that holds them."""

from opera_env.tools.tool import Restore, Tool, pad_to_multiple
from opera_env.tools.toolbox import Toolbox

__all__ = ["Restore", "Tool", "Toolbox", "pad_to_multiple"]
