"""Tools made from modules, TorchScript files and checkpoints; files without a network are refused."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact
from spandrel.architectures.DRUNet.__arch.network_unet import DRUNet
from spandrel.architectures.ESRGAN.__arch.RRDB import RRDBNet
from spandrel.architectures.NAFNet.__arch.NAFNet_arch import NAFNet
from spandrel.architectures.SwinIR.__arch.SwinIR import SwinIR
from torch import Tensor, nn

from opera_env.errors import ToolboxError
from opera_env.execution import Executor
from opera_env.tools import Toolbox
from opera_env.types import Sample, SampleSpec

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore:torch.meshgrid:UserWarning"
)


def _swinir(**options: Any) -> nn.Module:
    return SwinIR(
        **{
            "img_size": 16,
            "window_size": 8,
            "embed_dim": 12,
            "depths": [2],
            "num_heads": [2],
            "mlp_ratio": 2,
            "resi_connection": "1conv",
            **options,
        }
    )


# Networks spandrel knows: how to build one, its scale, multiple and minimum.
CHECKPOINTS = {
    "compact x4": (lambda: SRVGGNetCompact(num_feat=8, num_conv=2, upscale=4), 4, 1, 1),
    "compact x2": (lambda: SRVGGNetCompact(num_feat=8, num_conv=2, upscale=2), 2, 1, 1),
    "nafnet": (
        lambda: NAFNet(width=8, middle_blk_num=1, enc_blk_nums=[1, 1], dec_blk_nums=[1, 1]),
        1,
        1,
        1,
    ),
    "esrgan x4": (lambda: RRDBNet(num_filters=8, num_blocks=1, scale=4), 4, 1, 2),
    "swinir": (lambda: _swinir(upscale=1, upsampler=""), 1, 1, 16),
    "swinir jpeg": (
        lambda: _swinir(img_size=14, window_size=7, img_range=255.0, upscale=1, upsampler=""),
        1,
        1,
        16,
    ),
    "swinir x4": (lambda: _swinir(upscale=4, upsampler="nearest+conv"), 4, 1, 16),
    "drunet": (lambda: DRUNet(in_nc=4, out_nc=3, nc=[4, 8, 8, 8], nb=2), 1, 8, 1),
}


def _network(kind: str) -> nn.Module:
    torch.manual_seed(0)
    network = CHECKPOINTS[kind][0]()
    for parameter in network.parameters():  # zeros, with which some layers start, would hide errors
        nn.init.normal_(parameter, std=0.05)
    return network.eval()


def _write(state: dict[str, Tensor], path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_a_checkpoint_becomes_a_tool(kind: str, suffix: str, tmp_path: Path) -> None:
    network = _network(kind)
    path = _write(network.state_dict(), tmp_path / f"net{suffix}")
    toolbox = Toolbox().add("their.net", path, degradations=["noise"])

    tool = toolbox["their.net"]
    scale, multiple, minimum = CHECKPOINTS[kind][1:]
    assert (tool.scale, tool.multiple, tool.minimum) == (scale, multiple, minimum)
    assert tool.degradations == {"noise"}

    side = 56  # a multiple of every window
    # DRUNet takes the noise level as a fourth channel; spandrel adds it, for one image at a time.
    batch = 1 if kind == "drunet" else 2
    image = torch.rand(batch, 3, side, side)
    extra = [torch.full((1, 1, side, side), 15 / 255)] if kind == "drunet" else []
    with torch.inference_mode():
        expected = network(torch.cat([image, *extra], dim=1))
        result = tool(image, (side * 4, side * 4))
    assert result.shape == (batch, 3, side * scale, side * scale)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)

    # Through the executor as well, in a batch, at a size that is not a multiple of any window.
    samples = [
        Sample(torch.rand(3, 21, 27), None, None, (21 * scale, 27 * scale), SampleSpec("made up", index))
        for index in range(3)
    ]
    results = list(Executor(toolbox).run(samples, [("their.net",)] * 3))
    assert [tuple(done.image.shape) for done in results] == [(3, 21 * scale, 27 * scale)] * 3
    assert all(done.image.std() > 0 for done in results)


def test_a_spandrel_network_is_not_clamped_and_can_be_trained(tmp_path: Path) -> None:
    network = _network("compact x4")
    path = _write(network.state_dict(), tmp_path / "net.pth")
    tool = Toolbox().add("a", path)["a"]
    image = (torch.rand(1, 3, 12, 12) * 4 - 1).requires_grad_()
    result = tool.restore(image)
    assert result.max() > 1
    assert result.min() < 0
    result.square().mean().backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0
    assert tool.module is not None
    gradients = [parameter.grad for parameter in tool.module.parameters()]
    assert gradients
    assert all(gradient is not None and bool(gradient.isfinite().all()) for gradient in gradients)


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_a_checkpoint_of_a_saved_toolbox_needs_no_trust(tmp_path: Path, kind: str) -> None:
    """Its architecture is recognised by its weights, which may have been trained since."""
    path = _write(_network(kind).state_dict(), tmp_path / "net.pth")
    toolbox = Toolbox().add("a", path, halo=5, degradations=["noise"])
    with torch.no_grad():
        for parameter in toolbox["a"].parameters:
            parameter.mul_(1.01)
    toolbox.save(tmp_path / "box")
    loaded = Toolbox.load(tmp_path / "box")
    assert loaded.fingerprint == toolbox.fingerprint
    assert (loaded["a"].scale, loaded["a"].minimum, loaded["a"].multiple, loaded["a"].halo) == (
        *(toolbox["a"].scale, toolbox["a"].minimum, toolbox["a"].multiple, 5),
    )
    image = torch.rand(1, 3, 21, 27)
    with torch.inference_mode():
        assert torch.equal(loaded["a"](image, (21, 27)), toolbox["a"](image, (21, 27)))


def test_a_checkpoint_in_half_precision_is_saved(tmp_path: Path) -> None:
    path = _write(_network("swinir").state_dict(), tmp_path / "net.pth")
    Toolbox().add("a", path).save(tmp_path / "box", dtype=torch.float16)
    loaded = Toolbox.load(tmp_path / "box")
    assert all(parameter.dtype == torch.float32 for parameter in loaded["a"].parameters)


def test_a_checkpoint_that_became_another_architecture_is_refused(tmp_path: Path) -> None:
    Toolbox().add("a", _write(_network("nafnet").state_dict(), tmp_path / "n.pth")).save(tmp_path / "box")
    manifest = json.loads((tmp_path / "box/toolbox.json").read_text())
    manifest["tools"][0]["options"]["architecture"] = "SwinIR"
    (tmp_path / "box/toolbox.json").write_text(json.dumps(manifest))
    with pytest.raises(ToolboxError, match=r"tools\[0\]: expected the architecture 'SwinIR', found NAFNet"):
        Toolbox.load(tmp_path / "box")


def test_an_argument_overrides_what_spandrel_finds(tmp_path: Path) -> None:
    path = _write(_network("nafnet").state_dict(), tmp_path / "net.pth")
    tool = Toolbox().add("a", str(path), multiple=16)["a"]
    assert (tool.scale, tool.multiple) == (1, 16)


def test_files_of_equal_weights_have_equal_fingerprints(tmp_path: Path) -> None:
    state = _network("compact x4").state_dict()
    prints = {
        Toolbox().add("a", _write(state, tmp_path / f"net{suffix}")).fingerprint
        for suffix in (".pth", ".safetensors")
    }
    assert len(prints) == 1


class _Half(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        if image.shape[-1] > 8:
            return self.conv(image)
        return image * 0.5


def test_a_module_becomes_a_tool(conv: nn.Module) -> None:
    image = torch.rand(2, 3, 9, 11)
    tool = Toolbox().add("a", conv)["a"]
    assert tool.module is conv
    with torch.inference_mode():
        torch.testing.assert_close(tool(image, (9, 11)), conv(image), atol=1e-6, rtol=0)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ts"])
def test_a_torchscript_file_becomes_a_tool(tmp_path: Path, suffix: str) -> None:
    torch.manual_seed(0)
    network = _Half().eval()
    path = tmp_path / f"script{suffix}"
    torch.jit.save(torch.jit.script(network), str(path))
    toolbox = Toolbox().add("a", path, degradations=["noise"])
    for side in (8, 12):
        image = torch.rand(1, 3, side, side)
        with torch.inference_mode():
            torch.testing.assert_close(toolbox["a"](image, (side, side)), network(image), atol=1e-6, rtol=0)
    before = toolbox.fingerprint
    assert toolbox.fingerprint == before
    module = toolbox["a"].module
    assert module is not None
    with torch.no_grad():
        next(module.parameters()).add_(1)
    assert toolbox.fingerprint != before


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ToolboxError, match=r"'a': no file at .*nowhere\.pth"):
        Toolbox().add("a", tmp_path / "nowhere.pth")
    with pytest.raises(ToolboxError, match="no file at"):
        Toolbox().add("a", str(tmp_path))


NO_NETWORKS = (
    b"",
    b"\x80",
    b"not a network" * 50,
    bytes(range(256)) * 20,
    b"{}",
    b"\x93NUMPY",
    b"PK\x03\x04" + b"0" * 99,
)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".safetensors", ".txt", ""])
def test_a_file_without_a_network_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"file{suffix}"
    toolbox = Toolbox()
    for content in NO_NETWORKS:
        path.write_bytes(content)
        with pytest.raises(ToolboxError, match=r"'a'.*file"):
            toolbox.add("a", path)
    assert len(toolbox) == 0


@pytest.mark.parametrize(
    "content",
    [{"weight": torch.zeros(3)}, [1, 2], torch.zeros(3), {}, {"state_dict": {}}, "text", {"params": [1]}],
    ids=lambda content: str(content)[:20],
)
def test_an_unrecognised_checkpoint_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(ToolboxError, match="'a'"):
        Toolbox().add("a", tmp_path / "net.pth")


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    state = _network("compact x4").state_dict()
    for suffix in (".pth", ".safetensors"):
        path = _write(state, tmp_path / f"net{suffix}")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(ToolboxError, match="'a'"):
            Toolbox().add("a", path)


def test_a_zip_file_that_resembles_torchscript_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "net.pt", "w") as archive:
        archive.writestr("net/code/model.py", "print('hello')")
    with pytest.raises(ToolboxError, match="'a'"):
        Toolbox().add("a", tmp_path / "net.pt")


def test_a_network_on_grey_images_is_refused(tmp_path: Path) -> None:
    network = SRVGGNetCompact(num_in_ch=1, num_out_ch=1, num_feat=8, num_conv=2, upscale=1)
    path = _write(network.state_dict(), tmp_path / "net.pth")
    with pytest.raises(ToolboxError, match="RGB"):
        Toolbox().add("a", path)


class _Malicious:
    """Makes a folder when it is unpickled without restrictions."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt"])
@pytest.mark.parametrize("form", ["torch", "legacy", "pickle"])
def test_a_checkpoint_cannot_run_code(tmp_path: Path, suffix: str, form: str) -> None:
    marker = tmp_path / "it ran"
    path = tmp_path / f"net{suffix}"
    state: dict[str, Any] = {**_network("compact x4").state_dict(), "extra": _Malicious(marker)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(state))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "torch")
    with pytest.raises(ToolboxError, match="'a'"):
        try:
            Toolbox().add("a", path)
        finally:
            assert not marker.exists(), "the checkpoint's code was run"
