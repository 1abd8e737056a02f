"""The card beside a model: its system prompt and toolbox, and the refusal of other toolboxes."""

from __future__ import annotations

from pathlib import Path

import pytest

from opera_agents.vlm.saved import METADATA_FILE, identify_model, load_card, replace_model, save_card
from opera_env.degradations import DEGRADATIONS
from opera_env.errors import AgentError, MissingWeightsError, ToolboxMismatchError, WeightsIntegrityError
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


def test_a_card_says_whether_the_model_calls_functions(lite: Toolbox, tmp_path: Path) -> None:
    save_card("", lite, tmp_path)
    whole = load_card(tmp_path)
    save_card("", lite, tmp_path, turns=True)
    calling = load_card(tmp_path)
    assert whole is not None and calling is not None
    whole.check_turns(False)
    calling.check_turns(True)
    with pytest.raises(AgentError, match="call functions turn by turn, found"):
        whole.check_turns(True)
    with pytest.raises(AgentError, match="--answer-kind turns"):
        calling.check_turns(False)


def test_changed_and_absent_weights_raise(lite: Toolbox, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"weights")
    save_card("", lite, tmp_path)
    card = load_card(tmp_path)
    assert card is not None and list(card.weights) == ["model.safetensors"]
    card.check_weights(tmp_path)
    path.write_bytes(b"weighty")
    with pytest.raises(WeightsIntegrityError, match=r"model\.safetensors"):
        card.check_weights(tmp_path)
    path.unlink()
    with pytest.raises(MissingWeightsError, match=r"model\.safetensors"):
        card.check_weights(tmp_path)


def write_model(folder: Path, lite: Toolbox, data: bytes) -> None:
    (folder / "model.safetensors").write_bytes(data)
    (folder / "model.safetensors").chmod(0o600)
    save_card("", lite, folder)


def test_a_model_is_replaced_as_a_whole(lite: Toolbox, tmp_path: Path) -> None:
    target = tmp_path / "model"
    with replace_model(target) as folder:
        write_model(folder, lite, b"first")
        (folder / "old").touch()
        assert not target.exists()
    assert (target / "model.safetensors").stat().st_mode == (target / METADATA_FILE).stat().st_mode
    with pytest.raises(KeyboardInterrupt), replace_model(target) as folder:
        write_model(folder, lite, b"second")
        raise KeyboardInterrupt
    assert (target / "model.safetensors").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    (folder / "left").mkdir(parents=True)
    with replace_model(target) as folder:
        assert not list(folder.iterdir()), "what a killed process left is gone"
        write_model(folder, lite, b"third")
    assert (target / "model.safetensors").read_bytes() == b"third"
    assert [path.name for path in tmp_path.iterdir()] == ["model"] and not (target / "old").exists()


def test_models_are_known_by_their_weights(lite: Toolbox, tmp_path: Path) -> None:
    folders = [tmp_path / name / "model" for name in "abc"]
    for folder, data in zip(folders, (b"1", b"1", b"2"), strict=True):
        folder.mkdir(parents=True)
        write_model(folder, lite, data)
    first, same, other = (identify_model(folder) for folder in folders)
    assert isinstance(first, dict) and isinstance(same, dict) and isinstance(other, dict)
    assert first["content"] == same["content"] != other["content"]
    assert identify_model("owner/name") == "owner/name" and identify_model(None) is None


def test_other_models_have_no_card(tmp_path: Path) -> None:
    assert load_card(tmp_path) is None
    assert load_card("Qwen/Qwen2.5-VL-7B-Instruct") is None


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"tools": 3}'])
def test_error_for_a_broken_file_names_it(tmp_path: Path, text: str) -> None:
    (tmp_path / METADATA_FILE).write_text(text)
    with pytest.raises(AgentError, match=METADATA_FILE):
        load_card(tmp_path)
