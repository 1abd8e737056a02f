from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.stand_in import StandIn, run_stand_in


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandIn]:
    """A stand-in of the hub; weights travel by HTTP, as hosts without the Xet protocol receive them."""
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    monkeypatch.setenv("OPERA_ENV_CACHE", str(tmp_path / "cache"))
    with run_stand_in() as stand_in:
        yield stand_in
