"""The pools of tools: the same networks, trained on different data."""

from __future__ import annotations

import pytest
from torch import nn

from opera_env.errors import UnknownToolError
from opera_env.tool_training.pools import Pool, find_spec, pool_specs, training_spec
from opera_env.tools import Tool


def test_all_pools_have_the_same_tools_and_networks() -> None:
    lite, adapted = pool_specs("lite"), pool_specs("lite-adapted")
    assert [(s.name, s.degradation, s.net, s.options) for s in lite] == [
        (s.name, s.degradation, s.net, s.options) for s in adapted
    ]


@pytest.mark.parametrize("pool", ["lite", "lite-adapted", "real"])
def test_a_tool_starts_from_one_of_its_own_pool(pool: Pool) -> None:
    for spec in pool_specs(pool):
        assert find_spec(pool, spec.name) is spec
        if spec.init_from is not None:
            assert find_spec(pool, spec.init_from).net == spec.net
    with pytest.raises(UnknownToolError, match=r"unet\.denoize.*unet\.denoise"):
        find_spec(pool, "unet.denoize")


def test_the_record_of_its_training_names_the_spec_of_a_tool() -> None:
    def tool(name: str, **training: object) -> Tool:
        return Tool(name, nn.Identity(), training=training)

    assert training_spec(tool("unet.dejpeg", pool="lite")) is find_spec("lite", "unet.dejpeg")
    adapted = tool("unet.dejpeg", pool="lite-adapted", cotraining={"agent": "planner"})
    assert training_spec(adapted) is find_spec("lite-adapted", "unet.dejpeg")
    for without in (tool("unet.dejpeg"), tool("unet.dejpeg", pool="mine"), tool("mine.own", pool="lite")):
        assert training_spec(without) is None
