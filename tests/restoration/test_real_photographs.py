"""What the default restorer does with photographs that are dark or hazy as cameras see it.

All of it is trained on synthetic degradations so far. These tests say what a person expects, and fail as
long as that is missing: ``strict`` makes them report when it no longer is.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from opera_env.data.images import list_images
from opera_env.data.read import read_photo
from opera_env.restoration import DEFAULT_TOOLBOX, Restorer, RestorerConfig
from opera_env.tools import Toolbox

pytestmark = [pytest.mark.slow, pytest.mark.needs_shared_data]


MEMORY = 2**36
"""A limit that this process keeps whatever tests it has run before: memory is not what is tested here."""


@pytest.fixture(scope="module")
def toolbox() -> Toolbox:
    return Toolbox.load(DEFAULT_TOOLBOX)


@pytest.mark.xfail(strict=True, reason="planner and critic know the benchmark's low light only")
def test_most_dark_photographs_are_restored(shared_data: Path, toolbox: Toolbox) -> None:
    restorer, paths = Restorer(toolbox), list_images(shared_data / "real" / "lowlight")
    decisions = [restorer.restore(read_photo(path).tensor()).decision for path in paths]
    assert sum(bool(decision.plan) for decision in decisions) >= 6, "of 8"


@pytest.mark.xfail(strict=True, reason="detector and critic know the benchmark's haze only")
def test_most_hazy_photographs_are_restored(shared_data: Path, toolbox: Toolbox) -> None:
    restorer, paths = Restorer(toolbox), list_images(shared_data / "real" / "haze")
    decisions = [restorer.restore(read_photo(path).tensor()).decision for path in paths]
    assert sum(bool(decision.plan) for decision in decisions) >= 5, "of 6"


@pytest.mark.parametrize(
    "tool",
    [
        "brighten.gamma_correction",
        pytest.param(
            "brighten.constant_shift",
            marks=pytest.mark.xfail(strict=True, reason="it adds 40 levels everywhere, as its original"),
        ),
    ],
)
def test_a_black_sky_stays_black(toolbox: Toolbox, tool: str) -> None:
    """A lit scene under a night sky: the sky is black because it is night, not because light is missing."""
    night = torch.zeros(3, 256, 256)
    night[:, 128:] = 0.25 * torch.rand(3, 128, 256, generator=torch.Generator().manual_seed(0))
    restored = (
        Restorer(toolbox, RestorerConfig(plan=(tool,), max_memory=MEMORY)).restore(night).image.float()
    )
    assert restored[:, 128:].mean() > night[:, 128:].mean() + 0.05, "the scene is brighter"
    assert restored[:, :96].max() < 0.02, "the sky is black"


def test_low_light_that_a_person_names_is_restored(shared_data: Path, toolbox: Toolbox) -> None:
    """What the planner misses can be named: ``opera-env restore --fix low_light``."""
    restorer = Restorer(toolbox, RestorerConfig(fix=("low_light",), max_memory=MEMORY))
    for path in list_images(shared_data / "real" / "lowlight")[:3]:
        photograph = read_photo(path).tensor()
        result = restorer.restore(photograph)
        assert result.decision.plan, path.name
        assert result.image.float().mean() > photograph.mean() + 0.02, path.name
