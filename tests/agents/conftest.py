"""Fixtures of the tests of trainers."""

from __future__ import annotations

from pathlib import Path

import pytest

from opera_env.tools import Toolbox


@pytest.fixture(scope="session")
def small_toolbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three fast tools of ``lite``."""
    folder = tmp_path_factory.mktemp("toolbox")
    names = ["unet.denoise", "unet.dejpeg", "brighten.gamma_correction"]
    Toolbox.load("lite").subset(names).save(folder)
    return folder
