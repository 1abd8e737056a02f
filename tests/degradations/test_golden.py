"""Golden values of the operators: mean, deviation and mean absolute change on a 128-px crop, seed 0.

They detect a change of an operator; the tolerance of 0.25 grey levels lets other builds of OpenCV and
libjpeg pass.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.random import default_rng

from opera_env.degradations import DEGRADATION_CLASSES, DEGRADATIONS, Degradation
from opera_env.degradations.blur import DefocusBlur, MotionBlur
from opera_env.degradations.camera import Jpeg, LowLight, LowResolution, Noise
from opera_env.degradations.weather import Haze, Rain
from tests.degradations.images import astronaut

GOLDEN = {
    Noise("gaussian", 35.0): (135.57, 68.89, 26.54),
    Noise("poisson", 2.0): (134.74, 66.08, 17.50),
    MotionBlur(15, 5, 33.0): (133.80, 59.48, 15.88),
    DefocusBlur(4, 0.5): (134.99, 58.53, 10.03),
    Rain(75, 30, 15): (149.59, 65.20, 14.58),
    Haze(0.85, 1.2): (171.86, 37.13, 37.27),
    Jpeg(20): (135.18, 61.74, 6.76),
    LowResolution(): (135.01, 60.71, 8.18),
    LowLight("shift", 40): (102.37, 55.96, 32.65),
    LowLight("gamma", 0.6): (106.75, 62.78, 28.26),
    LowLight("linear", 120): (64.27, 29.94, 70.75),
}

DRAWN = {
    "rain": Rain(amount=92, length=32, angle=0),
    "haze": Haze(airlight=0.8910885061964363, beta=0.9237440565166444),
    "low_light": LowLight(kind="linear", amount=131.0),
    "motion_blur": MotionBlur(radius=15, sigma=8, angle=-41.438391522503345),
    "defocus_blur": DefocusBlur(radius=6, alias_sigma=0.5),
    "noise": Noise(kind="poisson", level=1.5395734275277406),
    "low_resolution": LowResolution(),
    "jpeg": Jpeg(quality=27),
}


def statistics_of(op: Degradation) -> tuple[float, float, float]:
    image = np.ascontiguousarray(astronaut()[0:128, 160:288])
    result = op(image, default_rng(0)).astype(float)
    clean = image if result.shape == image.shape else image[2::4, 2::4]
    return float(result.mean()), float(result.std()), float(np.abs(result - clean).mean())


@pytest.mark.parametrize("op", GOLDEN, ids=str)
def test_golden_statistics(op: Degradation) -> None:
    assert statistics_of(op) == pytest.approx(GOLDEN[op], abs=0.25)


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_golden_draws(name: str) -> None:
    drawn, expected = DEGRADATION_CLASSES[name].draw(default_rng(0)), DRAWN[name]
    assert type(drawn) is type(expected)
    for field, value in vars(expected).items():
        same = value if isinstance(value, str) else pytest.approx(value, rel=1e-9)
        assert getattr(drawn, field) == same
