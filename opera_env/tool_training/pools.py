"""The pools of tools that can be trained: specialists on two kinds of data, and one tool for everything."""

from __future__ import annotations

from opera_env.errors import UnknownToolError
from opera_env.tool_training import all_in_one_tools, lite_tools, off_the_shelf_tools, real_tools
from opera_env.tool_training.config import Pool
from opera_env.tool_training.lite_tools import ToolSpec


def pool_specs(pool: Pool) -> tuple[ToolSpec, ...]:
    """Returns the specs of the tools of a pool, in the order of the toolbox."""
    pools: dict[Pool, tuple[ToolSpec, ...]] = {
        "lite": lite_tools.LITE_TOOLS,
        "off-the-shelf": off_the_shelf_tools.OFF_THE_SHELF_TOOLS,
        "all-in-one": all_in_one_tools.ALL_IN_ONE_TOOLS,
        "real": real_tools.REAL_TOOLS,
    }
    return pools[pool]


def find_spec(pool: Pool, name: str) -> ToolSpec:
    """Returns the spec of a tool by its name.

    Raises:
        UnknownToolError: If the pool has no such tool.
    """
    specs = {spec.name: spec for spec in pool_specs(pool)}
    if name not in specs:
        raise UnknownToolError(name, list(specs))
    return specs[name]
