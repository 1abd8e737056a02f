"""Checkpoints of Restormer, X-Restormer and PromptIR are recognised by their tensors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from opera_env.errors import ToolboxError
from opera_env.tools import Toolbox, pad_to_multiple
from opera_env.tools.net_bounds import check_fit
from opera_env.tools.nets import build_net
from opera_env.tools.recognise import recognise
from tests.published_nets import PUBLISHED, SMALL, make_small, read_figures


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_configurations_are_recognised(name: str) -> None:
    shapes = {key: tuple(shape) for key, shape in read_figures()[name]["state_dict"].items()}
    kind, expected = PUBLISHED[name]
    found = recognise(shapes, 4 if name.endswith("x4") else None)
    assert found is not None and found[0] == kind
    check_fit(*found, shapes)
    with torch.device("meta"):
        net, published = build_net(*found), build_net(kind, expected)
    assert (net.scale, net.multiple, net.halo) == (published.scale, published.multiple, published.halo)


@pytest.mark.parametrize("name", SMALL)
def test_a_file_becomes_a_tool(name: str, tmp_path: Path) -> None:
    net = make_small(name)
    wrapped = {f"module.{key}": value.half() for key, value in net.state_dict().items()}
    torch.save({"params": wrapped, "iter": 300_000}, tmp_path / "net_g_latest.pth")
    scale = 4 if name.endswith("x4") else None
    toolbox = Toolbox().add("mine.net", tmp_path / "net_g_latest.pth", scale=scale, degradations=["rain"])
    tool = toolbox["mine.net"]
    assert (tool.scale, tool.multiple, tool.halo) == (net.scale, net.multiple, net.halo)
    assert tool.net is not None and tool.net[0] == SMALL[name][0]
    net.load_state_dict({key: value.half().float() for key, value in net.state_dict().items()})
    image = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    canvas = (16 * net.scale, 24 * net.scale)
    with torch.inference_mode():
        expected = net(pad_to_multiple(image, net.multiple))[..., : canvas[0], : canvas[1]]
        torch.testing.assert_close(tool(image, canvas), expected)
    toolbox.save(tmp_path / "box")
    assert Toolbox.load(tmp_path / "box").fingerprint == toolbox.fingerprint, "needs no trust"


def test_a_variant_and_other_files(tmp_path: Path) -> None:
    state = make_small("restormer_withbias").state_dict()
    torch.save(state | {"encoder_level1.0.attn.qkv.bias": torch.zeros(24)}, tmp_path / "variant.pth")
    with pytest.raises(ToolboxError, match=r"variant of restormer .*encoder_level1\.0\.attn\.qkv\.bias"):
        Toolbox().add("mine.net", tmp_path / "variant.pth")
    torch.save({"patch_embed.proj.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ToolboxError, match="spandrel does not recognise"):
        Toolbox().add("mine.net", tmp_path / "other.pth")
    truncated = {"encoder_level1.0.attn.temperature": (1, 1, 1), "patch_embed.proj.weight": (8, 3, 3, 3)}
    assert recognise(truncated) is None
    assert recognise(truncated | {"latent.0.ffn.project_out.weight": ()}) is None
