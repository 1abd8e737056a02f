"""Fixtures that all tests share: small images, samples, tools and environments, and two marks that skip.

Marks of tests and of their parameters:
    ``needs_weights("lpips")``  skips the test if this weight file is not in the cache
    ``needs_shared_data``       skips the test if the folder ``../shared/data`` does not exist
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import opera_env  # noqa: F401 - registers the environments
from opera_env import weights
from opera_env.data import Source, clean_folder
from opera_env.tools import Toolbox
from opera_env.tools.nets import ConstantShift
from opera_env.types import Sample

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

RECIPES = (("noise",), ("low_light",), ("defocus_blur", "jpeg"), ("noise", "low_resolution"))
"""Fast degradations; the last recipe makes the image smaller than its canvas."""

COUNT = "count"
"""Property of a test's report: a name and a number; equal names are summed and printed after all tests."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs_weights(name): skipped if the weight file is absent")
    config.addinivalue_line("markers", "needs_shared_data: skipped if ../shared/data is absent")


@cache
def _is_present(weight: str) -> bool:
    return weights.status(weight) == "present"


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs_weights"):
        if not _is_present(mark.args[0]):
            pytest.skip(f"the weight file is absent: opera-env weights fetch {mark.args[0]}")
    if item.get_closest_marker("needs_shared_data") and not SHARED_DATA.is_dir():
        pytest.skip(f"the folder {SHARED_DATA} is absent")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints the counts of all tests. It is here because parallel runs read this file in all processes."""
    counts: Counter[str] = Counter()
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        if isinstance(report, pytest.TestReport) and report.when == "call":
            for key, value in report.user_properties:
                if key == COUNT and isinstance(value, tuple | list):
                    counts[value[0]] += value[1]
    if counts:
        terminalreporter.section("counts")
    for name, number in sorted(counts.items()):
        terminalreporter.line(f"{number:8d}  {name}")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Limits torch to one thread: more do not help with small images, and tests run in parallel."""
    torch.set_num_threads(1)
    # A process whose first backward pass comes after torch.export cannot be forked any more.
    torch.ones(1, requires_grad=True).sum().backward()


@pytest.fixture
def returns_memory() -> Iterator[None]:
    """Gives the memory of a large test back to the system, which limits of later tests count otherwise."""
    yield
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    return SHARED_DATA


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).resolve().parents[1]


def photograph(height: int, width: int, seed: int) -> Image.Image:
    """Draws smooth colours, edges and fine texture, which metrics rate like a photograph."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8))
    picture = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float64)
    for _ in range(12):
        top, left = rng.integers(0, height - 8), rng.integers(0, width - 8)
        bottom, right = rng.integers(top + 4, height), rng.integers(left + 4, width)
        picture[top:bottom, left:right] = 0.5 * picture[top:bottom, left:right] + rng.integers(0, 128, 3)
    picture += rng.normal(0, 6, (height, width, 1))
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def make_photograph() -> Callable[[int, int, int], Image.Image]:
    """``make_photograph(height, width, seed)`` draws an image."""
    return photograph


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three clean images of different sizes, none of them square."""
    folder = tmp_path_factory.mktemp("photos")
    for seed, (height, width) in enumerate(((96, 128), (101, 75), (128, 96))):
        photograph(height, width, seed).save(folder / f"{seed}.png")
    return folder


@pytest.fixture(scope="session")
def small_toolbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three fast tools of ``lite``."""
    folder = tmp_path_factory.mktemp("toolbox")
    names = ["unet.denoise", "unet.dejpeg", "brighten.gamma_correction"]
    Toolbox.load("lite").subset(names).save(folder)
    return folder


@pytest.fixture(scope="session")
def source(photos: Path) -> Source:
    """A source of 64-pixel crops with fast degradations."""
    return clean_folder(photos, canvas=64, recipes=RECIPES)


@pytest.fixture(scope="session")
def samples(source: Source) -> list[Sample]:
    """One sample of each recipe; the image of the last is smaller than its canvas."""
    rng = np.random.default_rng(0)
    return [source.make(spec) for spec in source.list_specs(len(RECIPES), RECIPES, rng)]


def tiny_toolbox() -> Toolbox:
    """Builds five tools that run in microseconds, of modules that every process can unpickle."""
    blur = nn.Conv2d(3, 3, 3, padding=1, groups=3, bias=False, padding_mode="replicate")
    nn.init.constant_(blur.weight, 1 / 9)
    return (
        Toolbox()
        .add("tiny.brighten", ConstantShift(25.5), degradations=["low_light"])
        .add("tiny.darken", ConstantShift(-25.5), degradations=["haze"])
        .add("tiny.blur", blur, degradations=["noise", "jpeg"])
        .add("tiny.enlarge", nn.Upsample(scale_factor=4), scale=4, degradations=["low_resolution"])
        .add("tiny.identity", nn.Identity())
    )


@pytest.fixture(scope="session")
def make_toolbox() -> Callable[[], Toolbox]:
    """For tests that need several toolboxes, or change the networks."""
    return tiny_toolbox


@pytest.fixture
def toolbox() -> Toolbox:
    """A new tiny toolbox: brighten, darken, blur, enlarge (x4), identity."""
    return tiny_toolbox()


@pytest.fixture(scope="session")
def make_env(source: Source) -> Callable[..., gym.Env[Any, Any]]:
    """``make_env(id, **options)`` calls ``gym.make`` with the small fixtures as default options."""

    def make(name: str = "OPERA-Restore-v0", **options: Any) -> gym.Env[Any, Any]:
        small = {"reward": "classic", "source": source, "max_tools": 3, "obs_size": 64} | options
        return gym.make(name, **({"toolbox": tiny_toolbox()} | small))

    return make


@pytest.fixture
def perturb_blur_weights() -> Callable[[Toolbox], None]:
    """Halves the weights of ``tiny.blur`` in place, as an optimiser changes weights."""

    def train(toolbox: Toolbox) -> None:
        module = toolbox["tiny.blur"].module
        assert module is not None
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(0.5)

    return train


@pytest.fixture(scope="session")
def child_environment() -> dict[str, str]:
    """Environment variables of new processes: one thread each, because tests run in parallel."""
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
