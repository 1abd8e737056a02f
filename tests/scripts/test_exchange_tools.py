"""A toolbox gets some tools of another one; the others and the order stay."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from opera_env.errors import UnknownToolError
from opera_env.tools import Toolbox
from scripts.exchange_tools import ExchangeTools, exchange
from tests.random_tools import random_unet_tool


def test_the_named_tools_come_from_the_other_toolbox(tmp_path: Path) -> None:
    for seed in (0, 1):
        tools = [random_unet_tool(name, 10 * seed + i, 0.1, {}) for i, name in enumerate("abc")]
        Toolbox(tools).save(tmp_path / str(seed), torch.float16)
    first, second = (Toolbox.load(tmp_path / str(seed)) for seed in (0, 1))
    chosen = first.names[1]
    exchange(ExchangeTools(str(tmp_path / "0"), (chosen,), str(tmp_path / "1"), tmp_path / "out"))
    result = Toolbox.load(tmp_path / "out")
    assert result.names == first.names
    for name in first.names:
        expected = second if name == chosen else first
        assert result.subset((name,)).fingerprint == expected.subset((name,)).fingerprint


def test_an_unknown_tool_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(UnknownToolError, match=r"'unet\.nothing'"):
        exchange(ExchangeTools("lite", ("unet.nothing",), "lite", tmp_path / "out"))
    assert not (tmp_path / "out").exists()
