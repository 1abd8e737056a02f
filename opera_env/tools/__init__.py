"""Restoration tools, and the toolbox that holds them."""

from opera_env.tools.padding import pad_to_multiple
from opera_env.tools.tool import RestoreFn, Tool
from opera_env.tools.toolbox import Toolbox

__all__ = ["RestoreFn", "Tool", "Toolbox", "pad_to_multiple"]
