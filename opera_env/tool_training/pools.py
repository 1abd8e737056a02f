"""The pools of tools that can be trained: specialists on three kinds of data, and one for everything."""

from __future__ import annotations

from typing import get_args

from opera_env.errors import UnknownToolError
from opera_env.tool_training import adapted_tools, all_in_one_tools, lite_tools, real_tools
from opera_env.tool_training.config import Pool
from opera_env.tool_training.lite_tools import ToolSpec
from opera_env.tools import Tool


def pool_specs(pool: Pool) -> tuple[ToolSpec, ...]:
    """Returns the specs of the tools of a pool, in the order of the toolbox."""
    pools: dict[Pool, tuple[ToolSpec, ...]] = {
        "lite": lite_tools.LITE_TOOLS,
        "lite-adapted": adapted_tools.ADAPTED_TOOLS,
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


def training_spec(tool: Tool) -> ToolSpec | None:
    """Returns the spec with which a tool was trained, by the record of its training; None without one."""
    pool = tool.training.get("pool")
    known: tuple[Pool, ...] = get_args(Pool)
    specs = [spec for name in known if name == pool for spec in pool_specs(name)]
    return next((spec for spec in specs if spec.name == tool.name), None)
