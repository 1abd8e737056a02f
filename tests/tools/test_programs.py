"""ONNX files and programs of torch.export: tools equal to their module, at all sizes that they take."""

from __future__ import annotations

import builtins
import io
import pickle
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from opera_env.cotraining import ExecutionConfig, ExecutionUpdate
from opera_env.errors import ToolboxError, ToolFailedError, UntrustedCodeError
from opera_env.execution import Executor
from opera_env.tools import Tool, Toolbox
from opera_env.types import Sample

pytestmark = pytest.mark.filterwarnings("ignore")  # exporters warn about their own code

SIZES = ((64, 48), (96, 160), (33, 47), (1, 1))


class Net(nn.Module):
    """A small network that enlarges by ``scale``; it mirrors the border, so that windows change little."""

    def __init__(self, scale: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 6, 3, padding=1, padding_mode="replicate")
        self.last = nn.Conv2d(6, 3 * scale**2, 3, padding=1, padding_mode="replicate")
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, image: Tensor) -> Tensor:
        return self.shuffle(self.last(self.first(image).relu()))


def export_onnx(net: nn.Module, path: Path, fixed: bool) -> Path:
    axes = {} if fixed else {"image": {0: "batch", 2: "height", 3: "width"}}
    image = torch.rand(1, 3, 64, 48)
    torch.onnx.export(
        net, (image,), path, dynamo=False, input_names=["image"], output_names=["result"], dynamic_axes=axes
    )
    return path


def export_program(net: nn.Module, path: Path, fixed: bool) -> Path:
    sides = [None, None] if fixed else [8 * Dim(name, min=1, max=12) for name in ("h", "w")]
    shapes = None if fixed else ({0: Dim("b", max=4), 2: sides[0], 3: sides[1]},)
    image = torch.rand(1 if fixed else 2, 3, 64, 48)
    torch.export.save(torch.export.export(net.eval(), (image,), dynamic_shapes=shapes), path)
    return path


EXPORTERS: dict[str, tuple[Callable[..., Path], bool, str]] = {
    "onnx, any size": (export_onnx, False, "net.onnx"),
    "onnx, one size": (export_onnx, True, "net.onnx"),
    "program, some sizes": (export_program, False, "net.pt2"),
    "program, one size": (export_program, True, "net.pt2"),
}


@cache
def exported(kind: str, scale: int) -> bytes:
    """Returns the content of a file; exporting a program takes seconds."""
    export, fixed, name = EXPORTERS[kind]
    with tempfile.TemporaryDirectory() as folder:
        return export(Net(scale).eval(), Path(folder) / name, fixed).read_bytes()


every_kind = pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow if "program" in kind else ()) for kind in EXPORTERS]
)


def make(kind: str, folder: Path, factor: int = 1, **more: Any) -> tuple[Toolbox, nn.Module]:
    """Returns a toolbox of one tool from a file, and the module that the file was made from."""
    path = folder / EXPORTERS[kind][2]
    path.write_bytes(exported(kind, factor))
    return Toolbox().add("mine.net", path, **more), Net(factor).eval()


def difference(
    tool: Tool, net: Callable[[Tensor], Tensor], size: tuple[int, int], inner: Any = (slice(None),)
) -> float:
    image = torch.rand(5, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return (tool(image, (9999, 9999)) - net(image))[..., *inner].abs().max().item()


@every_kind
def test_a_tool_equals_its_module_at_every_size(kind: str, tmp_path: Path) -> None:
    toolbox, net = make(kind, tmp_path)
    tool = toolbox["mine.net"]
    assert (tool.multiple, tool.minimum) == ((8, 8) if "some" in kind else (1, 1))
    assert difference(tool, net, (64, 48)) < 1e-5
    assert difference(tool, net, (96, 160)) < 1e-3, "in windows, or more than the largest size"
    inner = (slice(0, 31), slice(0, 45))  # padding changes the neighbourhood of the other borders
    assert difference(tool, net, (33, 47), inner) < 1e-5


@every_kind
def test_the_scale_is_read_from_the_file(kind: str, tmp_path: Path) -> None:
    more = {"scale": 2} if kind == "onnx, any size" else {}  # the names of its axes do not say it
    toolbox, net = make(kind, tmp_path, 2, **more)
    assert toolbox["mine.net"].scale == 2
    assert difference(toolbox["mine.net"], net, (96, 160)) < 1e-3


@every_kind
def test_it_is_saved_and_loaded_with_trust(kind: str, tmp_path: Path) -> None:
    toolbox, net = make(kind, tmp_path, degradations=["noise"], halo=2)
    toolbox.save(tmp_path / "box")
    word = "onnx" if "onnx" in kind else "exported"
    with pytest.raises(UntrustedCodeError, match=rf"{word} \(tool mine\.net\).*trust_code"):
        Toolbox.load(tmp_path / "box")
    again = Toolbox.load(tmp_path / "box", trust_code=True)
    assert (again.signature, again.fingerprint) == (toolbox.signature, toolbox.fingerprint)
    assert difference(again["mine.net"], net, (96, 160)) < 1e-3
    again.save(tmp_path / "again")
    assert Toolbox.load(tmp_path / "again", trust_code=True).fingerprint == toolbox.fingerprint


@every_kind
def test_the_fingerprint_covers_the_file(kind: str, tmp_path: Path) -> None:
    toolbox, _ = make(kind, tmp_path)
    (tmp_path / "other").mkdir()
    other, _ = make(kind, tmp_path / "other", 2, scale=1)
    assert toolbox.signature == other.signature and toolbox.fingerprint != other.fingerprint


@every_kind
def test_it_runs_in_plans_with_other_tools(kind: str, tmp_path: Path, samples: list[Sample]) -> None:
    toolbox, net = make(kind, tmp_path)
    toolbox.add("mine.invert", lambda image: 1 - image)
    plan = ("mine.invert", "mine.net")
    for result in Executor(toolbox).run(samples, [plan] * len(samples)):
        with torch.inference_mode():
            expected = net(1 - result.sample.lq[None])[0]
        assert result.image.shape == expected.shape
        inner = (..., slice(8, -8), slice(8, -8))
        if min(expected.shape[-2:]) > 48:
            assert (result.image[inner] - expected[inner]).abs().max() < 1e-3


@pytest.mark.slow
def test_programs_are_trained_and_saved_with_their_present_weights(
    tmp_path: Path, samples: list[Sample]
) -> None:
    toolbox, _ = make("program, some sizes", tmp_path)
    before = toolbox.fingerprint
    update = ExecutionUpdate(toolbox, ExecutionConfig(loss="pixel", lr=1e-2))
    first = update.step(samples, [("mine.net",)] * len(samples))["loss"]
    for _ in range(5):
        last = update.step(samples, [("mine.net",)] * len(samples))["loss"]
    assert last < first and toolbox.fingerprint != before
    toolbox.save(tmp_path / "box")
    again = Toolbox.load(tmp_path / "box", trust_code=True)
    assert again.fingerprint == toolbox.fingerprint
    image = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(again["mine.net"](image, (32, 32)), toolbox["mine.net"](image, (32, 32)))


def test_onnx_cannot_be_trained_and_says_so(tmp_path: Path, samples: list[Sample]) -> None:
    toolbox, _ = make("onnx, any size", tmp_path)
    with pytest.raises(ToolboxError, match="no tool of this toolbox has parameters"):
        ExecutionUpdate(toolbox)
    toolbox.add("mine.conv", Net())
    with pytest.raises(ToolboxError, match=r"mine\.net: nothing to train"):
        ExecutionUpdate(toolbox, ExecutionConfig(trainable_tools=("mine.net",)))
    update = ExecutionUpdate(toolbox, ExecutionConfig(loss="pixel"))
    update.step(
        samples, [("mine.net", "mine.conv")] * len(samples)
    )  # only tools before it need its gradients
    with pytest.raises(ToolFailedError, match=r"'mine\.net' failed after mine\.conv.*not differentiable"):
        update.step(samples, [("mine.conv", "mine.net")] * len(samples))


@every_kind
def test_it_can_be_pickled(kind: str, tmp_path: Path) -> None:
    toolbox, net = make(kind, tmp_path)
    again = pickle.loads(pickle.dumps(toolbox))
    assert difference(again["mine.net"], net, (96, 160)) < 1e-3


def test_weights_beside_an_onnx_file_become_part_of_it(tmp_path: Path) -> None:
    import onnx

    path = export_onnx(Net().eval(), tmp_path / "net.onnx", False)
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="net.data", size_threshold=0)
    toolbox = Toolbox().add("mine.net", path)
    toolbox.save(tmp_path / "box")
    (tmp_path / "net.data").unlink()
    again = Toolbox.load(tmp_path / "box", trust_code=True)
    assert difference(again["mine.net"], Net().eval(), (32, 48)) < 1e-5
    with pytest.raises(ToolboxError, match=r"mine\.other.*net\.onnx: it cannot be read as ONNX.*net\.data"):
        toolbox.add("mine.other", path)


def test_weights_beside_an_onnx_file_are_part_of_the_fingerprint(tmp_path: Path) -> None:
    import onnx

    boxes: list[Toolbox] = []
    for factor in (0.0, 1.0):
        net = nn.Conv2d(3, 3, 1, bias=False).requires_grad_(False)
        net.weight.fill_(factor)
        (tmp_path / f"{factor}").mkdir()
        path = export_onnx(net.eval(), tmp_path / f"{factor}" / "net.onnx", False)
        model = onnx.load(path)
        onnx.save(model, path, save_as_external_data=True, location="net.data", size_threshold=0)
        boxes.append(Toolbox().add("mine.net", path))
    graphs = [(tmp_path / f"{factor}" / "net.onnx").read_bytes() for factor in (0.0, 1.0)]
    assert graphs[0] == graphs[1]
    assert boxes[0].fingerprint != boxes[1].fingerprint
    boxes[1].save(tmp_path / "box")
    boxes[0].load_weights(tmp_path / "box", trust_code=True)
    assert boxes[0]["mine.net"].restore(torch.ones(1, 3, 8, 8)).max() == 3
    assert boxes[0].fingerprint == boxes[1].fingerprint


class TwoInputs(nn.Module):
    def forward(self, image: Tensor, other: Tensor) -> Tensor:
        return image + other


@pytest.mark.parametrize("suffix", ["onnx", pytest.param("pt2", marks=pytest.mark.slow)])
def test_other_networks_are_refused_with_what_was_found(suffix: str, tmp_path: Path) -> None:
    image, path = torch.rand(1, 3, 16, 16), tmp_path / f"net.{suffix}"
    for net, inputs in ((TwoInputs(), (image, image)), (nn.Conv2d(1, 1, 1), (image[:, :1],))):
        if suffix == "onnx":
            torch.onnx.export(net, inputs, path, dynamo=False)
        else:
            torch.export.save(torch.export.export(net, inputs), path)
        with pytest.raises(
            ToolboxError, match=rf"'mine\.net': .*{suffix}: expected a .*one input"
        ) as caught:
            Toolbox().add("mine.net", path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["net.onnx", "net.pt2"])
@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04"])
def test_damaged_files_are_refused_in_one_line(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ToolboxError, match=r"mine\.net.*" + name.replace(".", r"\.")) as caught:
        Toolbox().add("mine.net", tmp_path / name)
    assert "\n" not in str(caught.value)


@every_kind
def test_a_file_that_was_cut_short_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / EXPORTERS[kind][2]
    content = exported(kind, 1)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ToolboxError, match=r"mine\.net") as caught:
        Toolbox().add("mine.net", path)
    assert "\n" not in str(caught.value)


def test_without_the_packages_the_error_says_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = export_onnx(Net().eval(), tmp_path / "net.onnx", False)
    real_import = builtins.__import__

    def refuse(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("onnx"):
            raise ImportError(f"No module named {name!r}")
        return real_import(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ToolboxError, match=r"onnxruntime.*pip install 'opera-env\[onnx\]'"):
        Toolbox().add("mine.net", path)


@pytest.mark.slow
def test_files_of_the_new_onnx_exporter_say_their_scale(tmp_path: Path) -> None:
    net, path = Net(2).eval(), tmp_path / "net.onnx"
    axes = ({0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC},)
    torch.onnx.export(net, (torch.rand(2, 3, 64, 48),), path, dynamic_shapes=axes, verbose=False)
    toolbox = Toolbox().add("mine.net", path)
    assert toolbox["mine.net"].scale == 2
    assert difference(toolbox["mine.net"], net, (33, 47)) < 1e-5


def test_half_precision_networks_are_given_half_precision(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    images = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, ["b", 3, "h", "w"]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "net", images[:1], images[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    buffer = io.BytesIO()
    onnx.save(model, buffer)
    (tmp_path / "net.onnx").write_bytes(buffer.getvalue())
    tool = Toolbox().add("mine.net", tmp_path / "net.onnx")["mine.net"]
    assert difference(tool, lambda image: -image, (33, 47)) < 1e-3
