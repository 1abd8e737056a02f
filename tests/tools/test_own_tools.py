"""Own networks in saved toolboxes: added by name or by file, loaded in another process with trust."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from opera_env.errors import OperaError, ToolboxError, UntrustedCodeError, WeightsIntegrityError
from opera_env.tools import Toolbox
from opera_env.tools.nets import ConstantShift
from tests.own_tools import READY, Blend, invert

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

BLEND, INVERT = "tests.own_tools:Blend", "tests.own_tools:invert"


@pytest.fixture
def blend() -> Blend:
    return Blend(4).eval()


@pytest.fixture
def script(tmp_path: Path, blend: Blend) -> Path:
    torch.jit.script(nn.Sequential(nn.Conv2d(3, 3, 1))).save(tmp_path / "net.pt")
    return tmp_path / "net.pt"


@pytest.fixture
def toolbox(blend: Blend, script: Path) -> Toolbox:
    """One tool of each kind that can be saved."""
    return (
        Toolbox.load("lite")
        .subset(["brighten.constant_shift"])
        .add("mine.blend", BLEND, options={"width": 4}, weights=blend.state_dict(), halo=1, multiple=2)
        .add("mine.invert", INVERT, degradations=["haze"])
        .add("mine.script", script, scale=1, halo=7)
    )


def results(toolbox: Toolbox) -> list[torch.Tensor]:
    image = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return [tool(image, (16, 24)) for tool in toolbox]


def assert_equal(first: Toolbox, second: Toolbox) -> None:
    assert first.names == second.names
    assert (first.signature, first.fingerprint) == (second.signature, second.fingerprint)
    assert all(torch.equal(a, b) for a, b in zip(results(first), results(second), strict=True))
    for one, other in zip(first, second, strict=True):
        for attribute in ("scale", "multiple", "minimum", "halo", "degradations", "net"):
            assert getattr(one, attribute) == getattr(other, attribute), attribute


def test_a_saved_toolbox_equals_the_original(toolbox: Toolbox, tmp_path: Path) -> None:
    toolbox.save(tmp_path / "box")
    loaded = Toolbox.load(tmp_path / "box", trust_code=True)
    assert_equal(toolbox, loaded)
    loaded.save(tmp_path / "again")
    assert_equal(toolbox, Toolbox.load(tmp_path / "again", trust_code=True))


def test_another_process_loads_the_same_toolbox(
    toolbox: Toolbox, tmp_path: Path, repository: Path, child_environment: dict[str, str]
) -> None:
    toolbox.save(tmp_path / "box")
    code = (
        "import sys; from opera_env.tools import Toolbox;"
        "print(Toolbox.load(sys.argv[1], trust_code=True).fingerprint)"
    )
    environment = child_environment | {"PYTHONPATH": str(repository)}
    command = [sys.executable, "-c", code, str(tmp_path / "box")]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == toolbox.fingerprint


def test_trained_weights_are_saved(toolbox: Toolbox, tmp_path: Path) -> None:
    """Also those of a TorchScript program, whose file held others."""
    before = toolbox.fingerprint
    with torch.no_grad():
        for tool in toolbox:
            for parameter in tool.parameters:
                parameter.add_(0.125)
    assert toolbox.fingerprint != before
    toolbox.save(tmp_path / "box")
    assert_equal(toolbox, Toolbox.load(tmp_path / "box", trust_code=True))


def test_weights_of_a_saved_toolbox_replace_those_of_another(toolbox: Toolbox, tmp_path: Path) -> None:
    toolbox.save(tmp_path / "box")
    other = Toolbox.load(tmp_path / "box", trust_code=True)
    with torch.no_grad():
        next(iter(other["mine.blend"].parameters)).add_(1)
    other.save(tmp_path / "other")
    with pytest.raises(UntrustedCodeError, match="trust_code=True"):
        toolbox.load_weights(tmp_path / "other")
    assert toolbox.load_weights(tmp_path / "other", trust_code=True).fingerprint == other.fingerprint


def test_without_trust_nothing_runs_and_the_error_says_what_would(
    toolbox: Toolbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toolbox.save(tmp_path / "box")

    def run(*args: object, **options: object) -> None:
        raise AssertionError("code ran")

    monkeypatch.setattr("opera_env.tools.own_code.import_attribute", run)
    monkeypatch.setattr(torch.jit, "load", run)
    says = (
        r"tests\.own_tools:Blend \(tool mine\.blend\).*tests\.own_tools:invert.*torchscript.*--trust-code"
    )
    with pytest.raises(UntrustedCodeError, match=says) as caught:
        Toolbox.load(tmp_path / "box")
    assert "\n" not in str(caught.value)


def test_a_folder_without_code_needs_no_trust(tmp_path: Path) -> None:
    Toolbox.load("lite").subset(["unet.denoise"]).save(tmp_path / "box")
    assert Toolbox.load(tmp_path / "box").names == ("unet.denoise",)


def test_two_loads_share_no_networks() -> None:
    toolbox = Toolbox().add("a", "tests.own_tools:READY").add("b", "tests.own_tools:READY")
    assert toolbox["a"].module is not toolbox["b"].module
    assert toolbox["a"].module is not READY


def test_functions_that_make_networks(tmp_path: Path) -> None:
    toolbox = Toolbox().add("a", "tests.own_tools:make_blend", options={"width": 2})
    assert isinstance(toolbox["a"].module, Blend) and toolbox["a"].module.share == 0.25
    toolbox.save(tmp_path)
    assert_equal(toolbox, Toolbox.load(tmp_path, trust_code=True))


def test_weights_from_a_file(tmp_path: Path, blend: Blend) -> None:
    torch.save(blend.state_dict(), tmp_path / "blend.pth")
    save_file({key: value.clone() for key, value in blend.state_dict().items()}, tmp_path / "b.safetensors")
    expected = Toolbox().add("a", BLEND, options={"width": 4}, weights=blend.state_dict()).fingerprint
    for name in ("blend.pth", "b.safetensors"):
        toolbox = Toolbox().add("a", BLEND, options={"width": 4}, weights=tmp_path / name)
        assert toolbox.fingerprint == expected
    (tmp_path / "blend.pth").write_bytes(b"nonsense")
    with pytest.raises(WeightsIntegrityError, match=r"blend\.pth"):
        Toolbox().add("a", BLEND, options={"width": 4}, weights=tmp_path / "blend.pth")


def test_half_precision_keeps_whole_numbers(tmp_path: Path, blend: Blend) -> None:
    blend.steps.fill_(100_001)
    toolbox = Toolbox().add("a", BLEND, options={"width": 4}, weights=blend.state_dict())
    toolbox.save(tmp_path, dtype=torch.float16)
    loaded = Toolbox.load(tmp_path, trust_code=True)["a"].module
    assert isinstance(loaded, Blend) and loaded.steps == 100_001
    assert loaded.conv.weight.dtype == torch.float32


def test_the_fingerprint_covers_name_options_and_weights(blend: Blend) -> None:
    state = blend.state_dict()
    boxes = [
        Toolbox().add("a", BLEND, options={"width": 4}, weights=state),
        Toolbox().add("a", BLEND, options={"width": 4, "share": 0.25}, weights=state),
        Toolbox().add("a", "tests.own_tools:make_blend", options={"width": 4}, weights=state),
        Toolbox().add("a", BLEND, options={"width": 4}, weights={k: v + 1 for k, v in state.items()}),
        Toolbox().add("a", INVERT),
        Toolbox().add("a", "tests.own_tools:Untensored"),
    ]
    assert len({box.fingerprint for box in boxes}) == len(boxes)
    assert len({box.signature for box in boxes}) == 1
    assert Toolbox().add("a", INVERT).fingerprint == boxes[4].fingerprint


@pytest.mark.parametrize(
    ("source", "more", "says"),
    [
        ("tests.no_such:Net", {}, r"'tests\.no_such:Net' cannot be imported"),
        ("tests.own_tools:Absent", {}, "cannot be imported.*Absent"),
        ("tests.own_tools:NOT_A_NETWORK", {}, "found 3"),
        (BLEND, {"options": {"widht": 4}}, r"raised TypeError: .*widht"),
        (BLEND, {"options": {"width": -1}}, r"'tests\.own_tools:Blend'.* raised"),
        (BLEND, {"options": {"width": torch.float32}}, "JSON types"),
        (BLEND, {"options": {"share": float("nan")}}, "JSON types"),
        (BLEND, {"weights": {"conv.weight": torch.zeros(1)}}, "the weights do not fit"),
        (INVERT, {"weights": {"a": torch.zeros(1)}}, "a function has no weights"),
        ("tests.own_tools:READY", {"options": {"width": 3}}, "takes no options"),
        (invert, {"options": {"a": 1}}, "module:attribute"),
        (Blend(), {"weights": {}}, "module:attribute"),
        ("nowhere.pt", {}, r"no file at nowhere\.pt.*module:attribute"),
    ],
)
def test_what_cannot_be_added_is_refused(source: Any, more: dict[str, Any], says: str) -> None:
    toolbox = Toolbox()
    with pytest.raises(ToolboxError, match=says) as caught:
        toolbox.add("mine", source, **more)
    assert "\n" not in str(caught.value)
    assert len(toolbox) == 0


@pytest.mark.parametrize(
    "source", [invert, Blend(), lambda image: image], ids=["function", "module", "lambda"]
)
def test_objects_cannot_be_saved_and_the_error_says_how(tmp_path: Path, source: Any) -> None:
    toolbox = Toolbox().add("shift", ConstantShift(3)).subset([]).add("mine.net", source)
    with pytest.raises(
        ToolboxError, match=r"mine\.net.*'my_module:MyNet', options=.*weights=net\.state_dict"
    ):
        toolbox.save(tmp_path / "box")
    assert not (tmp_path / "box").exists()


def test_a_state_without_tensors_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(ToolboxError, match="other than tensors"):
        Toolbox().add("a", "tests.own_tools:Untensored").save(tmp_path / "box")
    assert not (tmp_path / "box").exists()


@pytest.mark.parametrize("change", ["options", "weights", "script", "module"])
def test_a_folder_that_does_not_fit_is_refused_in_one_line(
    toolbox: Toolbox, tmp_path: Path, change: str
) -> None:
    folder = tmp_path / "box"
    toolbox.save(folder)
    manifest = json.loads((folder / "toolbox.json").read_text())
    blend, script = manifest["tools"][1], manifest["tools"][3]
    if change == "options":
        blend["options"] = {"width": 5}
    elif change == "weights":
        blend["file"] = None
        script["file"], script["sha256"] = None, None
    elif change == "script":
        (folder / script["file"]).write_bytes(b"PK\x03\x04")
        import hashlib

        script["sha256"] = hashlib.sha256(b"PK\x03\x04").hexdigest()
    else:
        blend["net"] = "tests.own_tools:Gone"
    (folder / "toolbox.json").write_text(json.dumps(manifest))
    with pytest.raises(OperaError, match=r"toolbox\.json: tools\[\d\]: ") as caught:
        Toolbox.load(folder, trust_code=True)
    assert "\n" not in str(caught.value)
