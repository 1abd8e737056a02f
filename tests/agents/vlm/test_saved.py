"""What lies beside a model says what it was told, and refuses other tools."""

from __future__ import annotations

from pathlib import Path

import pytest

from opera_agents.vlm.saved import FILE, load_card, save_card
from opera_env.errors import AgentError, ToolboxMismatchError
from opera_env.tools import Toolbox


@pytest.fixture
def lite() -> Toolbox:
    return Toolbox.load("lite")


def test_what_is_written_is_read(lite: Toolbox, tmp_path: Path) -> None:
    save_card("Mend\n{it}.", lite, tmp_path)
    told = load_card(tmp_path)
    assert told is not None
    assert (told.system, told.signature, told.tools) == ("Mend\n{it}.", lite.signature, lite.names)
    told.check(lite)


def test_other_tools_are_refused(lite: Toolbox, tmp_path: Path) -> None:
    save_card("", lite, tmp_path)
    told = load_card(tmp_path)
    assert told is not None
    with pytest.raises(ToolboxMismatchError, match=r"trained with the tools unet\.denoise"):
        told.check(lite.subset(["unet.dejpeg"]))


def test_a_model_from_elsewhere_was_told_nothing(tmp_path: Path) -> None:
    assert load_card(tmp_path) is None
    assert load_card("Qwen/Qwen2.5-VL-7B-Instruct") is None


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"tools": 3}'])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(AgentError, match=FILE):
        load_card(tmp_path)
