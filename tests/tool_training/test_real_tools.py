"""The tools of the pool ``real``: a tool for every label, and networks of ``lite``."""

from __future__ import annotations

import json

import pytest

from opera_env.degradations.real import REAL_LABELS
from opera_env.tool_training.lite_tools import ToolSpec
from opera_env.tool_training.pools import find_spec
from opera_env.tool_training.real_tools import REAL_TOOLS
from opera_env.tools import Toolbox
from opera_env.tools.nets import build_net


def test_every_label_of_real_photographs_has_a_tool() -> None:
    assert {label for spec in REAL_TOOLS for label in spec.degradations} == set(REAL_LABELS)
    assert len({spec.name for spec in REAL_TOOLS}) == len(REAL_TOOLS)
    assert all(spec.steps > 0 for spec in REAL_TOOLS)


@pytest.mark.parametrize("spec", REAL_TOOLS, ids=lambda spec: spec.name)
def test_a_tool_starts_from_a_network_of_lite_or_is_new(spec: ToolSpec) -> None:
    assert find_spec("real", spec.name) is spec
    if spec.initial_tool is None:
        assert spec.net == "expose"
        return
    kind, options = Toolbox.load("lite")[spec.initial_tool].net or ("", {})
    assert (kind, dict(options)) == (spec.net, json.loads(json.dumps(dict(spec.options))))


def test_networks_of_tools_with_terms_without_reference_have_curves() -> None:
    for spec in REAL_TOOLS:
        assert (spec.zero_reference is not None) == hasattr(build_net(spec.net, spec.options), "curves")
