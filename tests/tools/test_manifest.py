"""Saved toolboxes: what is read equals what was written; damaged toolboxes are refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from spandrel import ModelLoader
from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact

from opera_env.errors import MissingWeightsError, ToolboxError, WeightsIntegrityError
from opera_env.tools import Tool, Toolbox
from opera_env.tools.manifest import write_measurements


@pytest.fixture
def folder(toolbox: Toolbox, tmp_path: Path) -> Path:
    toolbox.save(tmp_path / "box")
    return tmp_path / "box"


def _manifest(folder: Path) -> Any:
    return json.loads((folder / "toolbox.json").read_text())


def _rewrite(folder: Path, manifest: Any) -> None:
    (folder / "toolbox.json").write_text(json.dumps(manifest))


def _states(toolbox: Toolbox) -> dict[str, torch.Tensor]:
    return {
        f"{tool.name} {key}": value
        for tool in toolbox
        if tool.module is not None
        for key, value in tool.module.state_dict().items()
    }


def test_float32_weights_are_restored_exactly(toolbox: Toolbox, folder: Path) -> None:
    loaded = Toolbox.load(folder)
    assert loaded.names == toolbox.names
    assert loaded.signature == toolbox.signature
    assert loaded.fingerprint == toolbox.fingerprint
    before, after = _states(toolbox), _states(loaded)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    image = torch.rand(2, 3, 20, 28)
    with torch.inference_mode():
        for name in toolbox.names:
            assert torch.equal(toolbox[name](image, (80, 112)), loaded[name](image, (80, 112)))


def test_the_attributes_of_tools_are_restored(toolbox: Toolbox, tmp_path: Path) -> None:
    first, *others = toolbox
    Toolbox([replace(first, minimum=24, multiple=12), *others]).save(tmp_path / "box")
    for saved, loaded in zip(
        [replace(first, minimum=24, multiple=12), *others], Toolbox.load(tmp_path / "box"), strict=True
    ):
        for attribute in ("name", "scale", "multiple", "minimum", "degradations", "training"):
            assert getattr(loaded, attribute) == getattr(saved, attribute), attribute
        assert not any(module.training for module in loaded.module.modules())  # type: ignore[union-attr]


def test_float16_weights_are_close_and_half_the_size(
    toolbox: Toolbox, folder: Path, tmp_path: Path
) -> None:
    toolbox.save(tmp_path / "half", dtype=torch.float16)
    loaded = Toolbox.load(tmp_path / "half")
    assert all(value.dtype == torch.float32 for value in _states(loaded).values())
    assert loaded.signature == toolbox.signature
    image = torch.rand(2, 3, 16, 24)
    with torch.inference_mode():
        for name in toolbox.names:
            torch.testing.assert_close(
                loaded[name](image, (16, 24)), toolbox[name](image, (16, 24)), atol=5e-3, rtol=0
            )
    full, half = (
        sum(path.stat().st_size for path in place.glob("*.safetensors"))
        for place in (folder, tmp_path / "half")
    )
    assert half < 0.8 * full
    # Saving the same toolbox again does not change it.
    loaded.save(tmp_path / "again", dtype=torch.float16)
    assert Toolbox.load(tmp_path / "again").fingerprint == loaded.fingerprint


def test_the_manifest_describes_the_folder(toolbox: Toolbox, folder: Path) -> None:
    manifest = _manifest(folder)
    assert [entry["name"] for entry in manifest["tools"]] == list(toolbox.names)
    files = {entry["file"] for entry in manifest["tools"]} - {None}
    assert len(files) == 3
    assert {path.name for path in folder.iterdir()} == {*files, "toolbox.json"}
    for entry in manifest["tools"]:
        if entry["file"] is not None:
            assert hashlib.sha256((folder / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
        tensors = toolbox[entry["name"]].module.parameters()  # type: ignore[union-attr]
        assert entry["parameters"] == sum(tensor.numel() for tensor in tensors)


def test_saving_replaces_the_previous_toolbox(toolbox: Toolbox, folder: Path) -> None:
    with torch.no_grad():
        for value in _states(toolbox).values():
            value.add_(0.5)
    toolbox.subset(["tiny.first", "tiny.context"]).save(folder)
    assert Toolbox.load(folder).names == ("tiny.first", "tiny.context")
    assert len(list(folder.iterdir())) == 3


def test_saving_keeps_other_files(toolbox: Toolbox, tmp_path: Path) -> None:
    """A user may save a toolbox into a folder that already holds checkpoints."""
    own_file = tmp_path / "my_own_network.safetensors"
    save_file({"weight": torch.zeros(3)}, own_file)
    (tmp_path / "notes.txt").write_text("keep")
    toolbox.save(tmp_path)
    toolbox.subset(["tiny.first"]).save(tmp_path)
    assert (tmp_path / "notes.txt").exists()
    assert own_file.exists()


def test_files_of_an_interrupted_save_are_removed_by_the_next_one(toolbox: Toolbox, folder: Path) -> None:
    """A process may be killed before the manifest names its files, or before earlier ones are removed."""
    left = folder / "tiny.first-0123abcd.safetensors"
    left.write_bytes(b"")
    toolbox.save(folder)
    assert not left.exists()
    assert Toolbox.load(folder).fingerprint == toolbox.fingerprint


@pytest.mark.parametrize("fails_at", range(4))
def test_a_failure_while_saving_keeps_the_previous_toolbox(
    toolbox: Toolbox, folder: Path, fails_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full at the first, second or third weight file, or at the manifest."""
    before = toolbox.fingerprint
    with torch.no_grad():
        for value in _states(toolbox).values():
            value.mul_(2)
    remaining = fails_at
    real = os.replace

    def replace_until_full(source: Any, target: Any) -> None:
        nonlocal remaining
        if remaining == 0:
            raise OSError(28, "No space left on device")
        remaining -= 1
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace_until_full)
        with pytest.raises(OSError, match="No space"):
            toolbox.save(folder)
    assert Toolbox.load(folder).fingerprint == before

    toolbox.save(folder)
    assert Toolbox.load(folder).fingerprint == toolbox.fingerprint != before
    assert len(list(folder.glob("*.safetensors"))) == 3


def test_files_are_written_atomically_and_the_manifest_last(
    toolbox: Toolbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the manifest appears, the toolbox can be loaded."""
    real = os.replace
    moved: list[str] = []

    def checked_replace(source: Any, target: Any) -> None:
        assert Path(source).parent == Path(target).parent
        real(source, target)
        moved.append(Path(target).name)
        if Path(target).name == "toolbox.json":
            assert Toolbox.load(tmp_path / "box").fingerprint == toolbox.fingerprint

    monkeypatch.setattr(os, "replace", checked_replace)
    toolbox.save(tmp_path / "box")
    assert moved[-1] == "toolbox.json"
    assert len(moved) == 4


def test_functions_and_foreign_modules_cannot_be_saved(
    toolbox: Toolbox, tmp_path: Path, conv: torch.nn.Module
) -> None:
    toolbox.add("mine.function", lambda image: image)
    with pytest.raises(ToolboxError, match=r"mine\.function.*subset"):
        toolbox.save(tmp_path / "box")
    with pytest.raises(ToolboxError, match=r"mine\.module"):
        Toolbox().add("mine.module", conv).save(tmp_path / "box")
    assert not (tmp_path / "box").exists(), "the error comes before anything is written"
    toolbox.subset([name for name in toolbox.names if name.startswith("tiny")]).save(tmp_path / "box")


def test_the_error_names_a_missing_weight_file(folder: Path) -> None:
    path = next(folder.glob("tiny.context-*.safetensors"))
    path.unlink()
    with pytest.raises(MissingWeightsError, match=r"tiny\.context") as caught:
        Toolbox.load(folder)
    assert caught.value.path == path


@pytest.mark.parametrize("how", ["one bit", "half of it", "empty", "another tool's"])
def test_a_damaged_weight_file_is_refused(folder: Path, how: str) -> None:
    path = next(folder.glob("tiny.first-*.safetensors"))
    data = bytearray(path.read_bytes())
    if how == "one bit":
        data[-1] ^= 1
    elif how == "half of it":
        data = data[: len(data) // 2]
    elif how == "empty":
        data = bytearray()
    else:
        data = bytearray(next(folder.glob("tiny.context-*.safetensors")).read_bytes())
    path.write_bytes(data)
    with pytest.raises(WeightsIntegrityError, match=r"tiny\.first"):
        Toolbox.load(folder)


@pytest.mark.parametrize("name", ["../outside.safetensors", "{outside}"])
def test_a_manifest_cannot_name_files_outside_its_folder(folder: Path, name: str) -> None:
    inside = next(folder.glob("tiny.first-*.safetensors"))
    outside = folder.parent / "outside.safetensors"
    shutil.move(inside, outside)
    manifest = _manifest(folder)
    manifest["tools"][0]["file"] = name.format(outside=outside)
    _rewrite(folder, manifest)
    with pytest.raises(MissingWeightsError) as caught:
        Toolbox.load(folder)
    assert caught.value.path == folder / "outside.safetensors"


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_a_manifest_of_another_version_is_refused(folder: Path, version: Any) -> None:
    _rewrite(folder, {**_manifest(folder), "format": version})
    with pytest.raises(ToolboxError, match="format"):
        Toolbox.load(folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "3",
        "{}",
        '{"format": 1}',
        '{"format": 1, "tools": [{"name": "a"}]}',
        "\xff\xfe",
    ],
)
def test_a_damaged_manifest_is_refused(folder: Path, text: str) -> None:
    (folder / "toolbox.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ToolboxError, match=r"toolbox\.json"):
        Toolbox.load(folder)


def test_a_manifest_with_an_unknown_network_is_refused(folder: Path) -> None:
    manifest = _manifest(folder)
    manifest["tools"][0]["net"] = "os.system"
    _rewrite(folder, manifest)
    with pytest.raises(ToolboxError, match=r"os\.system"):
        Toolbox.load(folder)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"widths": [4, 8], "unshuffle": 2, "colour": 1}, id="unknown option"),
        pytest.param({"widths": [6, 8], "unshuffle": 2}, id="other widths than the weights"),
    ],
)
def test_options_that_do_not_fit_are_refused(folder: Path, options: Any) -> None:
    manifest = _manifest(folder)
    manifest["tools"][0]["options"] = options
    _rewrite(folder, manifest)
    with pytest.raises(ToolboxError, match="unet"):
        Toolbox.load(folder)


def test_an_unknown_toolbox_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ToolboxError, match=r"nowhere.*lite"):
        Toolbox.load("nowhere")
    with pytest.raises(ToolboxError, match=r"toolbox\.json"):
        Toolbox.load(tmp_path)


def test_a_relative_path_is_resolved_against_the_working_directory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    assert Toolbox.load("box").names == Toolbox.load(folder).names


def test_saving_a_trained_toolbox_writes_the_new_weights(toolbox: Toolbox, folder: Path) -> None:
    old = {path.name for path in folder.glob("*.safetensors")}
    tool: Tool = toolbox["tiny.first"]
    assert tool.module is not None
    with torch.no_grad():
        next(tool.module.parameters()).add_(0.25)
    toolbox.save(folder)
    new = {path.name for path in folder.glob("*.safetensors")}
    assert len(new) == 3
    assert len(new & old) == 2, "the names of files contain their hash"
    assert Toolbox.load(folder).fingerprint == toolbox.fingerprint


def _write_positions(folder: Path) -> None:
    """Writes the position of each tool as its measurement."""
    names = [entry["name"] for entry in _manifest(folder)["tools"]]
    write_measurements(folder, {name: {"position": position} for position, name in enumerate(names)})


def _read_positions(folder: Path) -> dict[str, int]:
    """Reads the positions back, without tools that have no measurement."""
    return {tool.name: tool.measured["position"] for tool in Toolbox.load(folder) if tool.measured}


ALL_POSITIONS = {"tiny.first": 0, "tiny.enlarge": 1, "tiny.context": 2, "tiny.brighten": 3}


def test_measurements_are_added_and_nothing_else_changes(folder: Path) -> None:
    before, fingerprint = _manifest(folder), Toolbox.load(folder).fingerprint
    files = {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}
    assert _read_positions(folder) == {}
    _write_positions(folder)
    assert _read_positions(folder) == ALL_POSITIONS
    assert Toolbox.load(folder).fingerprint == fingerprint
    after = _manifest(folder)
    for entry in (*before["tools"], *after["tools"]):
        entry.pop("measured", None)
    assert after == before
    assert {path.name: path.read_bytes() for path in folder.glob("*.safetensors")} == files
    assert {path.name for path in folder.iterdir()} == {*files, "toolbox.json"}


def test_new_measurements_replace_previous_ones(folder: Path) -> None:
    _write_positions(folder)
    write_measurements(folder, {name: {"position": 9} for name in ALL_POSITIONS})
    assert set(_read_positions(folder).values()) == {9}


def test_a_failure_while_writing_measurements_keeps_the_manifest(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(source: Any, target: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(os, "replace", full)
        _write_positions(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("elsewhere", [False, True])
def test_measurements_are_saved_with_their_weights(folder: Path, elsewhere: bool) -> None:
    _write_positions(folder)
    target = folder.parent / "other" if elsewhere else folder
    Toolbox.load(folder).save(target)
    assert _read_positions(target) == ALL_POSITIONS
    Toolbox.load(target).subset(["tiny.context", "tiny.first"]).save(target)
    assert _read_positions(target) == {"tiny.context": 2, "tiny.first": 0}


def test_measurements_of_previous_weights_are_dropped(folder: Path) -> None:
    _write_positions(folder)
    toolbox = Toolbox.load(folder)
    module = toolbox["tiny.first"].module
    assert module is not None
    with torch.no_grad():
        next(module.parameters()).add_(0.25)
    toolbox.save(folder)
    assert _read_positions(folder) == {
        name: position for name, position in ALL_POSITIONS.items() if name != "tiny.first"
    }


def test_rounded_weights_have_not_been_read_positions(folder: Path, tmp_path: Path) -> None:
    _write_positions(folder)
    Toolbox.load(folder).save(tmp_path / "half", dtype=torch.float16)
    assert _read_positions(tmp_path / "half") == {"tiny.brighten": 3}, "it has no weights"
    _write_positions(tmp_path / "half")
    Toolbox.load(tmp_path / "half").save(tmp_path / "half", dtype=torch.float16)
    assert _read_positions(tmp_path / "half") == ALL_POSITIONS


def test_a_path_is_a_folder_and_a_name_is_shipped(
    toolbox: Toolbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toolbox.save(tmp_path / "lite")
    monkeypatch.chdir(tmp_path)
    assert Toolbox.load("./lite").names == toolbox.names == Toolbox.load(Path("lite")).names
    assert Toolbox.load("lite").names != toolbox.names
    monkeypatch.chdir(tmp_path / "lite")
    assert Toolbox.load(".").names == toolbox.names


class Announces(torch.nn.Module):
    """A program that anybody would notice."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image


@pytest.mark.parametrize("kind", ["spandrel", "unet"])
def test_weights_are_read_from_safetensors_alone(kind: str, folder: Path) -> None:
    """A file that spandrel or torch would open by its suffix may hold a program."""
    torch.jit.script(Announces()).save(str(folder / "net.pt"))
    digest = hashlib.sha256((folder / "net.pt").read_bytes()).hexdigest()
    manifest = _manifest(folder)
    manifest["tools"][0] |= {"net": kind, "file": "net.pt", "sha256": digest, "options": {}}
    _rewrite(folder, manifest)
    with pytest.raises(ToolboxError, match=r"expected weights in a \.safetensors file, found 'net\.pt'"):
        Toolbox.load(folder)


def test_a_checkpoint_for_spandrel_is_read_as_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spandrel gets the tensors of a toolbox folder, never its files."""
    network = SRVGGNetCompact(num_feat=8, num_conv=2, upscale=4)
    save_file(network.state_dict(), tmp_path / "net.safetensors")
    Toolbox().add("their.net", tmp_path / "net.safetensors").save(tmp_path / "box")
    monkeypatch.setattr(ModelLoader, "load_from_file", None)
    loaded = Toolbox.load(tmp_path / "box")["their.net"]
    image = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(loaded.restore(image), network.eval()(image))
