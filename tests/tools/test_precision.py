"""Reduced precision: close to float32, tested at the first use, and a tool that is not stays in float32."""

from __future__ import annotations

import copy
import pickle
import threading
import warnings

import pytest
import torch
from torch import Tensor, nn

from opera_env.errors import OperaWarning, ToolboxError
from opera_env.execution import Executor
from opera_env.tools import Toolbox, precision
from opera_env.tools.precision import MIN_AGREEMENT, _test_window
from opera_env.tools.residency import Residency
from opera_env.types import Sample, SampleSpec
from tests.published_nets import small_tools

IMAGE = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))


class Scaled(nn.Module):
    """A convolution that records the data type of its result; large factors make bfloat16 inaccurate."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net, self.factor = nn.Conv2d(3, 3, 3, padding=1), factor
        self.dtypes: list[torch.dtype] = []

    def forward(self, image: Tensor) -> Tensor:
        residual = self.net(image)
        self.dtypes.append(residual.dtype)
        return image + self.factor * residual


class OnlyFloat32(nn.Module):
    """Puts the result of a convolution into a tensor of float32, which torch refuses for other types."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Conv2d(3, 3, 1)

    def forward(self, image: Tensor) -> Tensor:
        rows = torch.arange(image.shape[2])
        return torch.zeros(image.shape).index_copy_(2, rows, self.net(image))


def run(toolbox: Toolbox, name: str) -> Tensor:
    sample = Sample(IMAGE[0], None, None, (24, 24), SampleSpec("made up", 0, (), 0))
    return next(iter(Executor(toolbox).run([sample], [(name,)]))).image


def psnr(one: Tensor, other: Tensor) -> float:
    return -10 * torch.log10((one - other).square().mean()).item()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_accurate_tools_run_at_reduced_precision(dtype: torch.dtype) -> None:
    toolbox = Toolbox().add("mine.net", Scaled(0.1)).add("mine.invert", lambda image: 1 - image)
    net = toolbox["mine.net"].restore
    assert isinstance(net, Scaled)
    exact = run(toolbox, "mine.net")
    assert toolbox.set_precision(dtype) is toolbox and toolbox.precision == dtype
    net.dtypes.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reduced = run(toolbox, "mine.net")
        assert net.dtypes == [torch.float32, dtype, dtype], "the test in both, then the image"
        run(toolbox, "mine.net")
        assert len(net.dtypes) == 4, "it is tested once"
        assert torch.equal(run(toolbox, "mine.invert"), 1 - IMAGE[0])
    assert reduced.dtype == torch.float32
    assert MIN_AGREEMENT < psnr(reduced, exact) < 110
    toolbox.set_precision(torch.float32)
    assert torch.equal(run(toolbox, "mine.net"), exact)


def test_an_inaccurate_tool_stays_in_float32_with_a_warning() -> None:
    toolbox = Toolbox().add("mine.net", Scaled(10.0)).add("mine.good", Scaled(0.1))
    exact = run(toolbox, "mine.net")
    toolbox.set_precision(torch.bfloat16)
    expected = (
        r"^tool 'mine\.net' runs in float32: in bfloat16 it agrees with float32 to \d\d\.\d of 50 dB\.$"
    )
    with pytest.warns(OperaWarning, match=expected):
        assert torch.equal(run(toolbox, "mine.net"), exact)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(run(toolbox, "mine.net"), exact)
        run(toolbox, "mine.good")


def test_overflow_is_noticed() -> None:
    toolbox = Toolbox().add("mine.net", Scaled(1.0)).set_precision(torch.float16)
    with torch.no_grad():
        toolbox["mine.net"].parameters[0].mul_(1e5)
    with pytest.warns(
        UserWarning, match=r"runs in float32: in float16 it agrees with float32 to (nan|-inf)"
    ):
        assert run(toolbox, "mine.net").isfinite().all()


def test_a_network_that_fails_at_reduced_precision_stays_in_float32() -> None:
    toolbox = Toolbox().add("mine.net", OnlyFloat32())
    exact = run(toolbox, "mine.net")
    toolbox.set_precision(torch.bfloat16)
    expected = r"'mine\.net' runs in float32: it fails in bfloat16 \(index_copy_.*same dtype"
    with pytest.warns(UserWarning, match=expected):
        assert torch.equal(run(toolbox, "mine.net"), exact)


@pytest.mark.slow
def test_the_published_architectures_are_accurate(monkeypatch: pytest.MonkeyPatch) -> None:
    """With small random networks of them: the layers, not the weights, are what may fail."""
    monkeypatch.setattr(precision, "_test_window", lambda: IMAGE)
    toolbox, exact = Toolbox(small_tools()).set_precision(torch.bfloat16), Toolbox(small_tools())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in toolbox.names:
            assert psnr(run(toolbox, name), run(exact, name)) >= MIN_AGREEMENT


def test_the_precision_depends_on_weights_not_on_images_or_threads() -> None:
    toolbox = Toolbox().add("mine.net", Scaled(0.1)).set_precision(torch.bfloat16)
    net = toolbox["mine.net"].restore
    assert isinstance(net, Scaled)
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        with toolbox.running(toolbox["mine.net"]), torch.inference_mode():
            toolbox["mine.net"](IMAGE, (24, 24))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert net.dtypes.count(torch.float32) == 1 and net.dtypes.count(torch.bfloat16) == 5
    assert _test_window().shape == (1, 3, 128, 128) and torch.equal(
        _test_window(), _test_window.__wrapped__()
    )


def test_it_is_part_of_the_identity_of_a_toolbox() -> None:
    toolbox = Toolbox().add("mine.net", "opera_env.tools.nets:ConstantShift", options={"levels": 20})
    plain = toolbox.fingerprint
    digests = {toolbox.set_precision(dtype).fingerprint for dtype in (torch.bfloat16, torch.float16)}
    assert len(digests | {plain}) == 3
    for other in (
        copy.deepcopy(toolbox),
        pickle.loads(pickle.dumps(toolbox)),
        toolbox.subset(toolbox.names),
    ):
        assert other.precision == torch.float16 and other.fingerprint == toolbox.fingerprint != plain
    assert toolbox.to("cpu").precision == torch.float16
    assert toolbox.limit_memory(Residency("cpu", 10**6)).precision == torch.float16
    assert toolbox.set_precision(torch.float32).fingerprint == plain
    with pytest.raises(ToolboxError, match=r"expected float32, bfloat16 or float16 .*float64"):
        toolbox.set_precision(torch.float64)


def test_new_weights_are_tested_again() -> None:
    names = ["unet.defocus_deblur"]
    toolbox = Toolbox.load("lite-adapted").subset(names).set_precision(torch.bfloat16)
    with pytest.warns(UserWarning, match=r"unet\.defocus_deblur.*4\d\.\d of 50 dB"):
        run(toolbox, names[0])
    other = Toolbox.load("lite-cotrained").subset(names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other.set_precision(torch.bfloat16)
        run(other, names[0])
