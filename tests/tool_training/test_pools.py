"""The pools of tools: the same networks, trained on different data."""

from __future__ import annotations

import pytest

from opera_env.errors import UnknownToolError
from opera_env.tool_training.pools import Pool, find_spec, pool_specs


def test_all_pools_have_the_same_tools_and_networks() -> None:
    lite, off_the_shelf = pool_specs("lite"), pool_specs("off-the-shelf")
    assert [(s.name, s.degradation, s.net, s.options) for s in lite] == [
        (s.name, s.degradation, s.net, s.options) for s in off_the_shelf
    ]


@pytest.mark.parametrize("pool", ["lite", "off-the-shelf", "real"])
def test_a_tool_starts_from_one_of_its_own_pool(pool: Pool) -> None:
    for spec in pool_specs(pool):
        assert find_spec(pool, spec.name) is spec
        if spec.init_from is not None:
            assert find_spec(pool, spec.init_from).net == spec.net
    with pytest.raises(UnknownToolError, match=r"unet\.denoize.*unet\.denoise"):
        find_spec(pool, "unet.denoize")
