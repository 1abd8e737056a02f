"""The toolbox ``paper``: names and order, official files in any form, and messages about missing files.

The fast tests run on small networks in place of the published ones; a slow test has them at full size.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from opera_env.cli import main
from opera_env.cli import weights as cli_weights
from opera_env.errors import MissingWeightsError, WeightsIntegrityError
from opera_env.execution import Executor
from opera_env.tools import Toolbox
from opera_env.tools.paper import PAPER_TOOLS, PaperTool, random_paper_tools
from opera_env.tools.residency import Residency
from opera_env.tools.swinir import SWINIR, build_swinir, swinir_halo, swinir_tool
from opera_env.types import Sample, SampleSpec
from opera_env.weights.paper_files import PAPER_FILES
from tests.published_nets import SMALL, make_small
from tests.weights.hostile_server import serve

TINY = {"img_size": 16, "depths": [2], "embed_dim": 6, "num_heads": [2]}
"""What makes a SwinIR small."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of weight files."""
    monkeypatch.setenv("OPERA_ENV_CACHE", str(tmp_path / "cache"))
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def small_paper(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Tensor]]:
    """Replaces the tools of the paper by four small ones and a brightener; returns their weights."""
    monkeypatch.setitem(SWINIR, "tiny", SWINIR["denoise"] | TINY)  # type: ignore[attr-defined]
    tools = (
        PaperTool("restormer.gaussian_denoise_15", "noise", *SMALL["restormer_biasfree"]),
        PaperTool("restormer.derain", "rain", *SMALL["restormer_withbias"]),
        PaperTool("xrestormer.dehaze", "haze", *SMALL["xrestormer"]),
        PaperTool("swinir.gaussian_denoise_15", "noise", "swinir", {"config": "tiny"}),
        PaperTool("brighten.constant_shift", "low_light", "shift", {"levels": 40}),
    )
    files = {tool.name: PAPER_FILES[tool.name] for tool in tools[:-1]}
    for module in ("opera_env.tools.paper", "opera_env.cli.tools"):
        monkeypatch.setattr(f"{module}.PAPER_TOOLS", tools)
    for module in ("opera_env.tools.paper", "opera_env.cli.tools", "opera_env.cli.weights"):
        monkeypatch.setattr(f"{module}.PAPER_FILES", files)
    monkeypatch.setitem(cli_weights._GROUPS, "paper", tuple(files))  # type: ignore[arg-type]
    torch.manual_seed(0)
    states = {
        tools[0].name: make_small("restormer_biasfree").state_dict(),
        tools[1].name: make_small("restormer_withbias").state_dict(),
        tools[2].name: make_small("xrestormer").state_dict(),
        tools[3].name: build_swinir(SWINIR["tiny"]).state_dict(),
    }
    return states


def save_as_published(states: dict[str, dict[str, Tensor]], folder: Path) -> None:
    """Writes files under names and keys as various training programs do."""
    rain = {f"module.{name}": value for name, value in states["restormer.derain"].items()}
    for place, content in {
        PAPER_FILES["restormer.gaussian_denoise_15"].filename: {
            "params": states["restormer.gaussian_denoise_15"]
        },
        "deraining.pth": {"state_dict": rain, "epoch": 7},
        "dehaze_300k/models/net_g_latest.pth": {"params": {}, "params_ema": states["xrestormer.dehaze"]},
        PAPER_FILES["swinir.gaussian_denoise_15"].filename: states["swinir.gaussian_denoise_15"],
    }.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, folder / place)


def test_names_and_order_are_the_papers() -> None:
    assert [tool.name for tool in PAPER_TOOLS] == [
        *(f"restormer.gaussian_denoise_{sigma}" for sigma in (15, 25, 50)),
        *(f"restormer.{task}" for task in ("derain", "defocus_deblur", "motion_deblur")),
        *(
            f"xrestormer.{task}"
            for task in ("denoise_50", "derain", "dehaze", "deblur", "super_resolution")
        ),
        "swinir.super_resolution",
        *(f"swinir.gaussian_denoise_{sigma}" for sigma in (15, 25, 50)),
        "swinir.dejpeg",
        "brighten.gamma_correction",
        "brighten.constant_shift",
    ]
    assert list(PAPER_FILES) == [tool.name for tool in PAPER_TOOLS[:16]]


def test_missing_files_are_named_with_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MissingWeightsError) as caught:
        Toolbox.load("paper")
    text = str(caught.value)
    assert "16 of 16" in text and "xrestormer.derain" in text and "\n" not in text
    assert "weights fetch paper;" in text and "fetch paper --from FOLDER" in text and "X-Restormer" in text
    assert main(["tools", "list", "--toolbox", "paper"]) != 0
    out, err = capsys.readouterr()
    for name, file in PAPER_FILES.items():
        row = next(line for line in out.splitlines() if f" {name} " in line)
        assert "missing" in row and file.filename in row
        assert ("by hand from https://" in row) == (not file.urls)
    assert "Traceback" not in err and "opera-env weights fetch paper" in err


def test_files_of_a_folder_become_the_toolbox(
    small_paper: dict[str, dict[str, Tensor]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_as_published(small_paper, tmp_path / "shared")
    (tmp_path / "shared/deraining.pth").rename(tmp_path / "kept.pth")
    fetch = ["weights", "fetch", "paper", "--from", str(tmp_path / "shared")]
    assert main(fetch) == 1
    err = capsys.readouterr().err
    assert "restormer.derain: expected deraining.pth" in err and "Academic Public License" in err
    with pytest.raises(MissingWeightsError, match=r"1 of 4 .*\(restormer\.derain\)"):
        Toolbox.load("paper")
    assert main(["tools", "list", "--toolbox", "paper"]) != 0
    assert [line.split()[2] for line in capsys.readouterr().out.splitlines() if ".pth" in line] == [
        *("present", "missing", "present", "present")
    ]
    (tmp_path / "kept.pth").rename(tmp_path / "shared/deraining.pth")
    assert main(fetch) == 0
    err = capsys.readouterr().err
    assert "denoise" not in err, "files that are present are not fetched again"
    toolbox = Toolbox.load("paper")
    assert len(toolbox) == 5 and toolbox.origin == ("paper", True)
    for name, state in small_paper.items():
        loaded = toolbox[name].module.state_dict()  # type: ignore[union-attr]
        assert len(loaded) == len(state)
        for key, value in loaded.items():
            assert torch.equal(value, state[key.removeprefix("model.")]), key
    assert main(["tools", "list", "--toolbox", "paper", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["tools"]) == 5
    toolbox.save(tmp_path / "saved")
    assert Toolbox.load(tmp_path / "saved").fingerprint == toolbox.fingerprint


def test_files_are_downloaded(
    small_paper: dict[str, dict[str, Tensor]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_as_published(small_paper, tmp_path / "shared")
    body = (tmp_path / "shared/deraining.pth").read_bytes()
    with serve(body) as server:
        files = dict(cli_weights.PAPER_FILES)
        for name, answer in (("restormer.derain", "cut"), ("restormer.gaussian_denoise_15", "good")):
            files[name] = replace(files[name], urls=(server.url(answer),))
        monkeypatch.setattr("opera_env.cli.weights.PAPER_FILES", files)
        assert main(["weights", "fetch", "restormer.derain"]) == 0
        err = capsys.readouterr().err
        assert err.index("Academic Public License") < err.index(server.url("cut"))
        assert main(["weights", "fetch", "restormer.gaussian_denoise_15"]) == 1
        err = capsys.readouterr().err
    assert "expected the restormer network of restormer.gaussian_denoise_15, received another file" in err
    assert "it fits restormer.derain" in err


def test_a_file_that_was_put_there_by_hand_is_checked_and_recorded(
    small_paper: dict[str, dict[str, Tensor]], cache: Path
) -> None:
    save_as_published(small_paper, cache / "paper")
    (cache / "paper/dehaze_300k/models/net_g_latest.pth").rename(cache / "paper/dehaze_300k.pth")
    Toolbox.load("paper")
    assert len(list((cache / "paper").glob("*.sha256"))) == 4
    torch.save(small_paper["restormer.derain"], cache / "paper/deraining.pth")
    with pytest.raises(WeightsIntegrityError, match=r"deraining\.pth: expected sha256 .*recorded"):
        Toolbox.load("paper")
    (cache / "paper/deraining.pth.sha256").unlink()
    Toolbox.load("paper")
    torch.save(small_paper["xrestormer.dehaze"], cache / "paper/deraining.pth")
    (cache / "paper/deraining.pth.sha256").unlink()
    with pytest.raises(
        WeightsIntegrityError, match=r"network of restormer\.derain.*fits xrestormer\.dehaze"
    ):
        Toolbox.load("paper")


@pytest.mark.parametrize("name", ["denoise", "dejpeg", "real_sr_large"])
def test_the_halo_of_swinir_is_its_receptive_field_radius(name: str) -> None:
    torch.manual_seed(0)
    config = SWINIR[name] | {"depths": [2, 2], "embed_dim": 8, "num_heads": [2, 2]}
    net = build_swinir(config | {"img_size": 8 * config["window_size"]})
    tool = swinir_tool("swinir.tiny", net.state_dict(), frozenset())
    window = config["window_size"]
    assert (tool.scale, tool.multiple) == (config["upscale"], window)
    assert tool.halo == swinir_halo([2, 2], window, tool.scale)
    assert tool.module is not None and tool.module.model.img_range == config["img_range"]  # type: ignore[union-attr]
    length = (2 * tool.halo // window + 6) * window
    image = torch.rand(1, 3, length, 2 * window).requires_grad_()
    result, radius = tool.restore(image), 0
    middle = length // 2 // window * window
    for place in (middle, middle + window - 1, middle + window // 2, middle + window // 2 - 1):
        pixels = result[:, :, place * tool.scale : (place + 1) * tool.scale]
        (gradient,) = torch.autograd.grad(pixels.sum(), image, retain_graph=True)
        rows = gradient.abs().amax((0, 1, 3)).nonzero()
        radius = max(radius, int((rows - place).abs().max()))
    assert 0.7 * tool.halo <= radius <= tool.halo


@pytest.mark.slow
@pytest.mark.usefixtures("returns_memory")
def test_a_chain_of_all_tools_at_full_size(tmp_path: Path) -> None:
    """Random weights: published files can be neither shipped nor downloaded by a test."""
    toolbox = Toolbox(random_paper_tools(0))
    sizes = {tool.name: sum(p.numel() for p in tool.parameters) for tool in toolbox}
    assert sizes["restormer.derain"] == 26_126_644 and sizes["xrestormer.derain"] == 26_041_208
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    sample = Sample(image, None, None, (64, 64), SampleSpec("made up", 0, (), 0))
    part = toolbox.names[:10]  # all of Restormer and X-Restormer that do not enlarge
    results = Executor(toolbox).run([sample, sample], [toolbox.names, part])
    images = {result.plan: result.image for result in results}
    restored = images[toolbox.names]
    assert restored.shape == sample.lq.shape and restored.isfinite().all()
    assert not torch.allclose(restored, sample.lq, atol=1e-3)
    # The same within a limit: one of the large networks on the device, three in memory, others in files.
    residency = Residency("cpu", max_bytes=150_000_000, max_host_bytes=320_000_000)
    toolbox.limit_memory(residency)
    assert torch.equal(next(iter(Executor(toolbox).run([sample], [part]))).image, images[part])
    assert residency.resident == ("xrestormer.deblur",)
    assert residency.waiting_in_memory == part[-3:]
    toolbox.to("cpu")
    for name, tool in zip(PAPER_FILES, toolbox, strict=False):
        assert tool.module is not None
        net = tool.module.model if name.startswith("swinir") else tool.module  # type: ignore[union-attr]
        torch.save({"params": net.state_dict()}, tmp_path / PAPER_FILES[name].filename)  # type: ignore[union-attr]
    assert main(["weights", "fetch", "paper", "--from", str(tmp_path)]) == 0
    assert Toolbox.load("paper").fingerprint == toolbox.fingerprint
