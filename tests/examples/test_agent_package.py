"""The agent package: its entry point names an agent that plans and that detects degradations."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from opera_env.agents import ENTRY_POINT_GROUP, make_agent, run_agent
from opera_env.data import bundled
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Agent, Observation, Sample

PACKAGE = Path("examples") / "06_agent_package"

Make = Callable[..., Agent]


@pytest.fixture
def folder(repository: Path) -> Path:
    return repository / PACKAGE


@pytest.fixture
def project(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text())["project"]


@pytest.fixture
def installed(
    folder: Path, project: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Does what an editable installation does: an importable folder and registered entry points."""
    info = tmp_path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    names = project["entry-points"][ENTRY_POINT_GROUP]
    lines = [f"[{ENTRY_POINT_GROUP}]", *(f"{name} = {target}" for name, target in names.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(folder)


@pytest.fixture(autouse=True)
def forget_module() -> Iterator[None]:
    yield
    sys.modules.pop("rule_based_agent", None)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("name", ["mine", "rule_based_agent:RuleBasedAgent"])
def test_agent_is_found_by_name_and_predicts_plans(
    name: str, toolbox: Toolbox, samples: list[Sample]
) -> None:
    agent = make_agent(name, toolbox=toolbox, max_tools=2, seed=0, tool_cost=0.0)
    assert isinstance(agent, Agent)
    scorer = PlanScorer(toolbox, "classic")
    agent_run = run_agent(agent, samples, scorer, max_tools=2)
    assert len(scorer.score(samples, agent_run.plans)) == len(samples)
    for plan, decision in zip(agent_run.plans, agent_run.decisions, strict=True):
        assert decision is not None and decision.degradations is not None
        assert all(toolbox[tool].degradations & decision.degradations for tool in plan)


@pytest.mark.usefixtures("installed")
def test_the_entry_point_names_the_same_class() -> None:
    (point,) = [point for point in entry_points(group=ENTRY_POINT_GROUP) if point.name == "mine"]
    assert point.value == "rule_based_agent:RuleBasedAgent"
    assert point.load().__module__ == "rule_based_agent"


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("size", [(1, 1), (5, 300), (128, 96)], ids=str)
def test_agent_takes_images_of_any_size(toolbox: Toolbox, size: tuple[int, int]) -> None:
    agent = make_agent("mine", toolbox=toolbox)
    assert isinstance(agent, Agent)
    dark, grey = torch.full((3, *size), 0.1), torch.full((3, *size), 0.5)
    decisions = agent.act([Observation(dark, dark), Observation(grey, grey)])
    assert [decision.plan for decision in decisions] == [("tiny.brighten",), ("tiny.darken",)]


@pytest.mark.usefixtures("installed")
def test_agent_detects_single_degradations(toolbox: Toolbox) -> None:
    """F1 above 0.6 on photographs with one degradation."""
    recipes = (("noise",), ("low_light",), ("haze",))
    source = bundled()
    specs = source.list_specs(24, recipes, np.random.default_rng(0))
    samples = [source.make(spec) for spec in specs]
    agent = make_agent("mine", toolbox=toolbox)
    assert isinstance(agent, Agent)
    decisions = agent.act([Observation(sample.lq, sample.lq) for sample in samples])
    pairs = [
        (set(d.degradations or ()), set(s.spec.recipe)) for d, s in zip(decisions, samples, strict=True)
    ]
    hits = sum(len(actual & there) for actual, there in pairs)
    wrong = sum(len(actual ^ there) for actual, there in pairs)
    assert 2 * hits / (2 * hits + wrong) > 0.6


def test_files_have_at_most_80_lines(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_file():
            assert len(path.read_text().splitlines()) <= 80
