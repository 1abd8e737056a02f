from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from opera_env.data import bundled
from opera_env.data.images import to_array, write_image
from opera_env.demo.workshop import Workshop
from opera_env.types import Sample


@pytest.fixture(scope="session")
def workshop() -> Workshop:
    return Workshop(max_megapixels=0.1, max_tools=3, num_plans=4)


@pytest.fixture(scope="session")
def noisy() -> Sample:
    source = bundled(canvas=128)
    (spec,) = source.list_specs(1, [("noise",)], np.random.default_rng(3))
    return source.make(spec)


@pytest.fixture
def photograph(noisy: Sample, tmp_path: Path) -> Path:
    path = tmp_path / "noisy.png"
    write_image(path, to_array(noisy.lq))
    return path
