"""Protocols: both agree with pyiqa on the same files, and an empty column says why."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageFilter

from opera_env.data import paired
from opera_env.errors import MissingPackageError, MissingWeightsError
from opera_env.evaluation import protocols
from opera_env.evaluation.judging import Judge
from opera_env.evaluation.protocols import PROTOCOLS, ColumnMetrics
from opera_env.metrics import METRICS, build_metric
from opera_env.tools import Toolbox
from opera_env.types import Sample, SampleSpec
from tests.evaluation.conftest import PSNR

PYIQA: dict[str, dict[str, dict[str, Any]]] = {
    "opera": {
        "psnr_y": {"metric_name": "psnr", "test_y_channel": True, "color_space": "ycbcr"},
        "ssim_y": {"metric_name": "ssim", "test_y_channel": True, "color_space": "ycbcr"},
    },
    "agenticir": {"psnr_rgb": {"metric_name": "psnr"}, "ssim_yiq": {"metric_name": "ssim"}},
}
"""How the evaluation code of each protocol makes its metrics."""

TOLERANCES = {"psnr_y": 1e-3, "psnr_rgb": 1e-3, "ssim_y": 5e-5, "ssim_yiq": 5e-5}


@pytest.fixture(scope="module")
def pairs(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of blurred and of clean photographs."""
    blurred = tmp_path_factory.mktemp("blurred")
    for path in photos.iterdir():
        with Image.open(path) as image:
            image.filter(ImageFilter.GaussianBlur(1.5)).save(blurred / path.name)
    return blurred, photos


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_columns_agree_with_pyiqa_on_the_same_files(protocol: str, pairs: tuple[Path, Path]) -> None:
    import pyiqa

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = {name: pyiqa.create_metric(**options) for name, options in PYIQA[protocol].items()}
    assert list(expected) == [column.metric for column in PROTOCOLS[protocol][:2]]
    source = paired(*pairs)
    judge = Judge(Toolbox(), PSNR, PSNR, ColumnMetrics(expected))
    for index in range(len(source)):
        sample = source.make(SampleSpec(source.name, index))
        files = [str(folder / sample.spec.image) for folder in pairs]
        found = judge.score(sample, ()).metrics
        for name, metric in expected.items():
            assert found[name] == pytest.approx(metric(*files).item(), abs=TOLERANCES[name]), name


def test_columns_are_metrics() -> None:
    for columns in PROTOCOLS.values():
        assert [column.title for column in columns] == [
            *("PSNR", "SSIM", "LPIPS", "MANIQA", "CLIP-IQA", "MUSIQ")
        ]
        assert {column.metric for column in columns} <= set(METRICS)
        assert [column.lower_is_better for column in columns] == [
            column.title == "LPIPS" for column in columns
        ]


def test_a_column_that_cannot_be_computed_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(name: str) -> Any:
        if name == "musiq":
            raise MissingWeightsError("musiq", Path("nowhere"), "opera-env weights fetch musiq")
        if name == "maniqa":
            raise MissingPackageError("pyiqa", "iqa")
        return build_metric(name)

    monkeypatch.setattr(protocols, "build_metric", build)
    columns = ColumnMetrics(("psnr_y", "ssim_y", "musiq", "maniqa"))
    image = torch.zeros(3, 8, 64)
    small = Sample(image, image, None, (8, 64), SampleSpec("a", 0))
    assert columns.missing(small) == {
        "musiq": "no weights here: opera-env weights fetch musiq",
        "maniqa": "pyiqa is not installed: pip install 'opera-env[iqa]'",
        "ssim_y": "needs images of at least 11 x 11 pixels",
    }
    blind = Sample(image, None, None, (8, 64), SampleSpec("a", 0))
    assert columns.missing(blind)["psnr_y"] == "no reference"


def test_an_error_of_another_module_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(name: str) -> Any:
        raise ModuleNotFoundError("No module named 'torchvision'", name="torchvision")

    monkeypatch.setattr(protocols, "build_metric", build)
    with pytest.raises(ModuleNotFoundError, match="torchvision"):
        ColumnMetrics(("psnr_y",))
