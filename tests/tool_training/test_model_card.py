"""Model cards: saving, reading and plotting."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn

from opera_env.degradations import DEGRADATIONS
from opera_env.errors import ToolboxError
from opera_env.tool_training.model_card import Gain, ToolCard, plot_gains, read_card
from opera_env.tools import Tool, Toolbox
from opera_env.tools.manifest import write_measurements
from opera_env.tools.nets import build_net


def _card(psnr: float = 1.0) -> ToolCard:
    gains = {kind: Gain(psnr + row, 0.5, 0.25, -0.125, row) for row, kind in enumerate(DEGRADATIONS)}
    return ToolCard(2.5, Gain(psnr, 2.0, 0.5, -0.5, 3), gains, 41.5, 100, "some/photographs")


def test_a_card_is_restored_from_json() -> None:
    card = _card()
    assert ToolCard.from_json(json.loads(json.dumps(card.to_json()))) == card


def test_a_card_is_restored_from_a_toolbox_folder(tmp_path: Path) -> None:
    tool = Tool("a.gamma", build_net("gamma", {}), net=("gamma", {}))
    Toolbox([tool]).save(tmp_path / "box")
    with pytest.raises(ToolboxError, match="measure"):
        read_card(Toolbox.load(tmp_path / "box")["a.gamma"])
    write_measurements(tmp_path / "box", {"a.gamma": _card().to_json()})
    assert read_card(Toolbox.load(tmp_path / "box")["a.gamma"]) == _card()


def test_the_error_for_an_unmeasured_tool_names_the_command() -> None:
    with pytest.raises(ToolboxError, match=r"hand\.identity.*`opera-env tools measure "):
        read_card(Tool("hand.identity", nn.Identity()))


@pytest.mark.parametrize(("name", "kind"), [("new/gains.PNG", "PNG"), ("gains", "PNG"), ("g.jpg", "JPEG")])
def test_the_suffix_of_a_plot_selects_the_format(tmp_path: Path, name: str, kind: str) -> None:
    plot_gains({"a.tool": _card()}, tmp_path / name)
    with Image.open(tmp_path / name) as picture:
        assert picture.format == kind
    assert [path for path in (tmp_path / name).parent.iterdir() if path.is_file()] == [tmp_path / name]


def test_a_plot_is_wider_for_more_tools(tmp_path: Path) -> None:
    pictures = []
    for count in (2, 18):
        plot_gains({f"family.tool_{n}": _card(n) for n in range(count)}, tmp_path / "gains.png")
        pictures.append(Image.open(tmp_path / "gains.png").convert("RGB"))
    for picture in pictures:
        assert 500 < picture.height < 2000
        colours = np.unique(np.asarray(picture)[::2, ::2].reshape(-1, 3), axis=0)
        assert len(colours) > 50, "the plot is not empty"
    assert 3 * pictures[0].width < pictures[1].width < 4000
    assert list(tmp_path.iterdir()) == [tmp_path / "gains.png"]


def test_a_failed_plot_keeps_the_existing_file(tmp_path: Path) -> None:
    file = tmp_path / "gains.xyz"
    file.write_text("mine")
    with pytest.raises(ValueError, match="xyz"):
        plot_gains({"a.tool": _card()}, file)
    assert file.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [file]
