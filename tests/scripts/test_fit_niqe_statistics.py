"""The script that fits the statistics of NIQE to clean photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.random import default_rng
from PIL import Image
from safetensors.torch import load_file
from skimage import data

from opera_env.errors import SampleError
from opera_env.metrics.niqe import PRISTINE_STATISTICS, Niqe32, niqe_features
from scripts.fit_niqe_statistics import FitNIQEConfig, fit


def _write(folder: Path, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        rng = default_rng(number)
        coarse = Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8))
        picture = np.asarray(coarse.resize((256, 192), Image.Resampling.BICUBIC)).astype(np.float64)
        picture += rng.normal(0, 6, picture.shape)
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")


def test_the_script_fits_usable_statistics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path / "clean", 4)
    shipped = PRISTINE_STATISTICS.read_bytes()
    out = tmp_path / "fitted.safetensors"
    fit(FitNIQEConfig(tmp_path / "clean", out, sharpness=0.3))
    assert PRISTINE_STATISTICS.read_bytes() == shipped
    fitted = load_file(out)
    assert fitted["mean"].shape == (36,)
    assert fitted["covariance"].shape == (36, 36)
    assert bool(fitted["covariance"].isfinite().all())

    monkeypatch.setattr("opera_env.metrics.niqe.PRISTINE_STATISTICS", out)
    metric = Niqe32()
    assert torch.equal(metric.mean, fitted["mean"])
    # The images that the statistics were fitted to have the lowest NIQE.
    pictures = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "clean").iterdir())]
    fitted_values = metric.values(
        torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255, ()
    )
    photographs = (
        data.astronaut()[60:188, 150:278],
        data.chelsea()[80:208, 120:248],
        data.coffee()[100:228, 200:328],
    )
    clean = np.stack(photographs)
    noisy = (clean + default_rng(0).normal(0, 20, clean.shape).round()).clip(0, 255).astype(np.uint8)
    crops = torch.from_numpy(np.concatenate([clean, noisy]))
    other_values = metric.values(crops.permute(0, 3, 1, 2).float() / 255, ())
    assert fitted_values.max() < other_values.min()


def test_only_sharp_blocks_are_fitted(tmp_path: Path) -> None:
    """Half of the image is nearly constant: a high threshold excludes that half."""
    (tmp_path / "clean").mkdir()
    rng = default_rng(0)
    picture = rng.normal(128, 40, (192, 256, 3))
    picture[:, 128:] = 128 + (picture[:, 128:] - 128) * 0.02
    Image.fromarray(picture.clip(0, 255).round().astype(np.uint8)).save(tmp_path / "clean" / "one.png")
    means = {}
    for threshold in (0.0, 0.75):
        fit(FitNIQEConfig(tmp_path / "clean", tmp_path / "out.safetensors", sharpness=threshold))
        means[threshold] = load_file(tmp_path / "out.safetensors")["mean"]
    features, sharpness = niqe_features(
        torch.from_numpy(np.array(Image.open(tmp_path / "clean" / "one.png"))).permute(2, 0, 1)[None] / 255
    )
    sharp = features[0][sharpness[0] > sharpness.max() / 2]
    assert len(sharp) == 24
    torch.testing.assert_close(means[0.75], sharp.double().mean(0), atol=1e-4, rtol=0)
    assert (means[0.0] - means[0.75]).abs().max() > 0.01


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SampleError):
        fit(FitNIQEConfig(tmp_path, tmp_path / "out.safetensors"))
    assert not (tmp_path / "out.safetensors").exists()
