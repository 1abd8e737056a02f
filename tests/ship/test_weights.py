"""Shipped toolboxes have the weights that their manifests name; others would enlarge the wheel."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from opera_env.tools.toolbox import shipped_toolboxes

WEIGHTS = Path(__file__).resolve().parents[2] / "opera_env" / "tools" / "weights"


@pytest.mark.parametrize("name", shipped_toolboxes())
def test_a_shipped_toolbox_has_the_files_that_its_manifest_names_and_no_others(name: str) -> None:
    named = set(re.findall(r'"([^"]+\.safetensors)"', (WEIGHTS / name / "toolbox.json").read_text()))
    assert named == {path.name for path in (WEIGHTS / name).glob("*.safetensors")}
