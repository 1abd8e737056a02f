"""The pools of tools that can be trained: the same networks on different data."""

from __future__ import annotations

from opera_env.errors import UnknownToolError
from opera_env.tool_training import lite_tools, off_the_shelf_tools
from opera_env.tool_training.config import Pool
from opera_env.tool_training.lite_tools import ToolSpec


def pool_specs(pool: Pool) -> tuple[ToolSpec, ...]:
    """Returns the specs of the tools of a pool, in the order of the toolbox."""
    return lite_tools.LITE_TOOLS if pool == "lite" else off_the_shelf_tools.OFF_THE_SHELF_TOOLS


def find_spec(pool: Pool, name: str) -> ToolSpec:
    """Returns the spec of a tool by its name.

    Raises:
        UnknownToolError: If the pool has no such tool.
    """
    specs = {spec.name: spec for spec in pool_specs(pool)}
    if name not in specs:
        raise UnknownToolError(name, list(specs))
    return specs[name]
