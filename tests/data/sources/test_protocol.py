"""What sources share: the image cache, and the check of what a source of the user's own returns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.random import default_rng
from PIL import Image

from opera_env.data import clean_folder, list_samples, photographs
from opera_env.data.sources import protocol
from opera_env.data.sources.protocol import ImageCache
from opera_env.errors import SampleError
from opera_env.types import SampleSpec

SPEC = SampleSpec("mine", 0)


def test_least_recently_used_images_are_evicted(
    tmp_path: Path, write_photographs: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photographs(tmp_path, *[(16, 16)] * 6)
    paths = sorted(tmp_path.iterdir())
    read: list[str] = []
    real = protocol.read_image

    def count(path: Path) -> Any:
        read.append(path.name)
        return real(path)

    monkeypatch.setattr(protocol, "read_image", count)
    images = ImageCache(paths, max_bytes=3 * 16 * 16 * 3)
    for path in paths[:3]:
        assert np.array_equal(images[path], np.asarray(Image.open(path)))
    for path in paths[:3]:
        images[path]
    assert len(read) == 3, "three fit"
    images[paths[0]]
    images[paths[3]]  # the second is the oldest now
    assert len(images._cached) == 3
    assert images._bytes == 3 * 16 * 16 * 3
    read.clear()
    for number in (0, 2, 3, 1):
        images[paths[number]]
    assert read == ["1.png"]


def test_an_image_larger_than_the_memory_for_images_is_cached_alone(
    tmp_path: Path, write_photographs: Callable[..., Path]
) -> None:
    write_photographs(tmp_path, (16, 16), (40, 40), (16, 16))
    images = ImageCache(sorted(tmp_path.iterdir()), max_bytes=1000)
    for path in images.paths:
        assert images[path].shape[2] == 3
        assert list(images._cached) == [path]


def test_eviction_does_not_change_samples(tmp_path: Path, write_photographs: Callable[..., Path]) -> None:
    folder = write_photographs(tmp_path, *[(40, 52)] * 4)
    plain, forgetful = (clean_folder(folder, 16, [("noise",)]) for _ in range(2))
    forgetful._images = ImageCache(forgetful._images.paths, max_bytes=1)
    specs = plain.list_specs(8, [("noise",)], default_rng(0))
    for spec in specs:
        assert torch.equal(plain.make(spec).lq, forgetful.make(spec).lq)
    assert len(forgetful._images._cached) == 1


def test_a_cached_image_cannot_be_changed_through_a_sample(
    tmp_path: Path, write_photographs: Callable[..., Path]
) -> None:
    source = photographs(write_photographs(tmp_path, (16, 16)))
    spec = source.list_specs(1, (), default_rng(0))[0]
    sample = source.make(spec)
    before = sample.lq.clone()
    sample.lq.zero_()
    assert torch.equal(source.make(spec).lq, before)


class OwnSource:
    """A source of a user that returns, or raises, what it is given."""

    name, degradations = "mine", ("noise",)

    def __init__(self, specs: Any, sample: Any = None) -> None:
        self.specs, self.sample = specs, sample

    def __len__(self) -> int:
        return 1

    def draw(self, rng: Any) -> Any:
        return self.specs[0]

    def list_specs(self, count: int, recipes: Any, rng: Any) -> Any:
        return self.specs

    def make(self, spec: SampleSpec) -> Any:
        if isinstance(self.sample, Exception):
            raise self.sample
        return self.sample


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (OwnSource(None), r"list_specs\(count, recipes, rng\) raised TypeError"),
        (OwnSource([SPEC, SPEC]), "to return 1 objects of opera_env.types.SampleSpec, found 2"),
        (OwnSource(["a.png"]), r"to return 1 objects of opera_env.types.SampleSpec, found 1: \['a.png'\]"),
        (OwnSource([SPEC], None), r"make\(spec\) to return an opera_env.types.Sample, found None"),
        (OwnSource([SPEC], KeyError("gt")), r"make\(spec\) raised KeyError: 'gt'"),
    ],
)
def test_a_source_that_returns_something_else_is_named(source: Any, reason: str) -> None:
    with pytest.raises(SampleError, match=f"source 'mine': .*{reason}"):
        list(list_samples(source, 1, None, np.random.default_rng(0)))
