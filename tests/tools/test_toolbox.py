"""The toolbox: order and names of its tools, subsets, and functions as tools."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from opera_env.errors import OperaError, ToolboxError, UnknownToolError
from opera_env.tools import Tool, Toolbox


def _identity(image: torch.Tensor) -> torch.Tensor:
    return image


def test_tools_keep_their_order(toolbox: Toolbox) -> None:
    names = ("tiny.first", "tiny.enlarge", "tiny.context", "tiny.brighten")
    assert toolbox.names == names
    assert [tool.name for tool in toolbox] == list(names)
    assert len(toolbox) == 4
    assert "tiny.first" in toolbox
    assert "tiny" not in toolbox
    assert toolbox.add("a.last", _identity).names == (*names, "a.last")


def test_an_unknown_tool_raises_an_error_that_lists_the_tools(toolbox: Toolbox) -> None:
    with pytest.raises(UnknownToolError, match=r"'tiny\.frist'.*tiny\.first.*toolbox\.add"):
        toolbox["tiny.frist"]
    with pytest.raises(UnknownToolError, match="no tools"):
        Toolbox()["anything"]


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "a b",
        "a,b",
        "a>b",
        "<a>",
        "a/b",
        "../a",
        ".a",
        "-a",
        "a\n",
        "a\nb",
        "a;b",
        "ä",
        "a|b",
        "a\\b",
    ],
)
def test_invalid_tool_names_are_refused(name: str) -> None:
    with pytest.raises(ToolboxError, match="is not a valid tool name"):
        Toolbox().add(name, _identity)


@pytest.mark.parametrize("name", ["a", "restormer.gaussian_denoise_15", "My-Net.v2", "0"])
def test_valid_tool_names_are_accepted(name: str) -> None:
    assert Toolbox().add(name, _identity).names == (name,)


def test_tool_names_must_differ(toolbox: Toolbox) -> None:
    before = toolbox.signature
    with pytest.raises(ToolboxError, match=r"already has a tool 'tiny\.first'"):
        toolbox.add("tiny.first", _identity)
    with pytest.raises(ToolboxError, match="already"):
        Toolbox([Tool("a", _identity), Tool("a", _identity)])
    assert toolbox.signature == before


@pytest.mark.parametrize("rule", [{"scale": 0}, {"scale": -1}, {"multiple": 0}])
def test_scale_and_multiple_below_one_are_refused(rule: dict[str, int]) -> None:
    with pytest.raises(ToolboxError, match="at least 1"):
        Toolbox().add("a", _identity, **rule)  # type: ignore[arg-type]


def test_a_subset_shares_its_networks(toolbox: Toolbox) -> None:
    subset = toolbox.subset(["tiny.context", "tiny.first"])
    assert subset.names == ("tiny.context", "tiny.first")
    assert subset["tiny.first"].module is toolbox["tiny.first"].module
    before = subset.fingerprint
    module = toolbox["tiny.first"].module
    assert module is not None
    with torch.no_grad():
        next(module.parameters()).add_(1)
    assert subset.fingerprint != before, "both toolboxes hold the same network"
    assert subset.add("mine", _identity).names != toolbox.names
    assert len(toolbox) == 4
    with pytest.raises(UnknownToolError):
        toolbox.subset(["tiny.first", "tiny.frist"])


def test_networks_are_put_into_evaluation_mode(conv: nn.Module) -> None:
    conv.train()
    Toolbox().add("a", conv)
    assert not conv.training


@pytest.mark.parametrize("source", [3, None, [], b"path"])
def test_sources_that_are_no_tools_are_refused(source: Any) -> None:
    with pytest.raises(OperaError, match="expected a function"):
        Toolbox().add("a", source)


def test_a_function_with_scale_and_multiple_is_padded_and_cropped() -> None:
    seen: list[tuple[int, ...]] = []

    def enlarge(image: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(image.shape))
        return image.repeat_interleave(2, dim=-2).repeat_interleave(2, dim=-1)

    tool = Toolbox().add("a", enlarge, scale=2, multiple=8, degradations=["noise"])["a"]
    assert (tool.scale, tool.multiple, tool.degradations) == (2, 8, frozenset({"noise"}))
    image = torch.rand(2, 3, 9, 16)
    enlarged = tool(image, (18, 32))
    torch.testing.assert_close(enlarged, enlarge(image))
    assert seen[0] == (2, 3, 16, 16)
    assert tool(image, (9, 16)).shape == image.shape
