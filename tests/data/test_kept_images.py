"""Image files are read once while there is memory for them, and samples do not notice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.random import default_rng
from PIL import Image

from opera_env.data import clean_folder, photographs
from opera_env.data import sources as sources_module
from opera_env.data.images import write_image
from opera_env.data.sources import _ImageCache


def _clean(folder: Path, chart: Any, *sizes: tuple[int, int]) -> Path:
    for number, size in enumerate(sizes):
        write_image(folder / f"{number}.png", chart(*size, seed=number))
    return folder


def test_old_images_leave_memory(tmp_path: Path, chart: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _clean(tmp_path, chart, *[(16, 16)] * 6)
    paths = sorted(tmp_path.iterdir())
    read: list[str] = []
    real = sources_module.read_image

    def count(path: Path) -> Any:
        read.append(path.name)
        return real(path)

    monkeypatch.setattr(sources_module, "read_image", count)
    images = _ImageCache(paths, max_bytes=3 * 16 * 16 * 3)
    for path in paths[:3]:
        assert np.array_equal(images[path], np.asarray(Image.open(path)))
    for path in paths[:3]:
        images[path]
    assert len(read) == 3, "three fit"
    images[paths[0]]
    images[paths[3]]  # the second is the oldest now
    assert len(images._kept) == 3
    assert images._bytes == 3 * 16 * 16 * 3
    read.clear()
    for number in (0, 2, 3, 1):
        images[paths[number]]
    assert read == ["1.png"]


def test_an_image_larger_than_the_memory_for_images_is_kept_alone(tmp_path: Path, chart: Any) -> None:
    _clean(tmp_path, chart, (16, 16), (40, 40), (16, 16))
    images = _ImageCache(sorted(tmp_path.iterdir()), max_bytes=1000)
    for path in images.paths:
        assert images[path].shape[2] == 3
        assert list(images._kept) == [path]


def test_eviction_does_not_change_samples(tmp_path: Path, chart: Any) -> None:
    folder = _clean(tmp_path, chart, *[(40, 52)] * 4)
    plain, forgetful = (clean_folder(folder, 16, [("noise",)]) for _ in range(2))
    forgetful._images = _ImageCache(forgetful._images.paths, max_bytes=1)
    specs = plain.list_specs(8, [("noise",)], default_rng(0))
    for spec in specs:
        assert torch.equal(plain.make(spec).lq, forgetful.make(spec).lq)
    assert len(forgetful._images._kept) == 1


def test_a_kept_image_cannot_be_changed_through_a_sample(tmp_path: Path, chart: Any) -> None:
    source = photographs(_clean(tmp_path, chart, (16, 16)))
    spec = source.list_specs(1, (), default_rng(0))[0]
    sample = source.make(spec)
    before = sample.lq.clone()
    sample.lq.zero_()
    assert torch.equal(source.make(spec).lq, before)
