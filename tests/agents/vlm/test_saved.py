"""The card beside a model: its system prompt and toolbox, and the refusal of other toolboxes."""

from __future__ import annotations

from pathlib import Path

import pytest

from opera_agents.vlm.saved import METADATA_FILE, load_card, save_card
from opera_env.degradations import DEGRADATIONS
from opera_env.errors import AgentError, ToolboxMismatchError
from opera_env.tools import Toolbox


@pytest.fixture
def lite() -> Toolbox:
    return Toolbox.load("lite")


def test_a_card_is_read_back(lite: Toolbox, tmp_path: Path) -> None:
    save_card("Restore\n{it}.", lite, tmp_path)
    card = load_card(tmp_path)
    assert card is not None
    assert (card.system_prompt, card.signature, card.tools) == (
        "Restore\n{it}.",
        lite.signature,
        lite.names,
    )
    card.check(lite)


def test_another_toolbox_raises(lite: Toolbox, tmp_path: Path) -> None:
    save_card("", lite, tmp_path)
    card = load_card(tmp_path)
    assert card is not None
    with pytest.raises(ToolboxMismatchError, match=r"trained for the tools unet\.denoise"):
        card.check(lite.subset(["unet.dejpeg"]))


def test_other_labels_raise(lite: Toolbox, tmp_path: Path) -> None:
    save_card("", lite, tmp_path, ["noise", "vignette"])
    card = load_card(tmp_path)
    assert card is not None and card.degradations == ("noise", "vignette")
    card.check(lite)
    card.check(lite, ["vignette", "noise"])
    with pytest.raises(AgentError, match="names noise, vignette, but the photographs may have rain, haze"):
        card.check(lite, DEGRADATIONS)


def test_other_models_have_no_card(tmp_path: Path) -> None:
    assert load_card(tmp_path) is None
    assert load_card("Qwen/Qwen2.5-VL-7B-Instruct") is None


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"tools": 3}'])
def test_error_for_a_broken_file_names_it(tmp_path: Path, text: str) -> None:
    (tmp_path / METADATA_FILE).write_text(text)
    with pytest.raises(AgentError, match=METADATA_FILE):
        load_card(tmp_path)
