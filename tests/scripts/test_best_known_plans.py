"""The search of best known plans resumes, tries the plans of files, and writes a table that can be read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from opera_env.evaluation.benchmarks import Benchmark, load_benchmark
from opera_env.evaluation.best_plans import read_best_plans
from scripts import best_known_plans
from scripts.best_known_plans import BestKnownPlans, search

BRIGHT = "tests.own_rewards:BRIGHT"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Benchmark:
    """Three samples of OPERA-Lite-v1 in place of all."""
    whole = load_benchmark("OPERA-Lite-v1")
    part = replace(whole, samples=whole.samples[:3])
    monkeypatch.setattr(best_known_plans, "load_benchmark", lambda *_: part)
    return part


def test_an_interrupted_search_is_resumed_by_the_same_command(
    small: Benchmark, small_toolbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = tmp_path / "plans.jsonl"
    longer = ["brighten.gamma_correction"] * 5
    plans.write_text(json.dumps({"spec": small.samples[2].spec.to_json(), "plan": longer}))
    config = BestKnownPlans(
        tmp_path / "best.jsonl",
        toolbox=str(small_toolbox),
        judge=BRIGHT,
        max_length=1,
        beam_width=1,
        max_tools=1,
        plans=(plans,),
        device="cpu",
    )
    make, calls = type(small).make, []

    def interrupted(self: Benchmark, sample: object) -> object:
        calls.append(sample)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return make(self, sample)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(Benchmark, "make", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search(config)
    assert (tmp_path / "best.jsonl.partial").exists()
    best = search(config)
    assert len(calls) == 4
    assert read_best_plans(config.out) == best
    assert [path.name for path in tmp_path.iterdir() if "best" in path.name] == ["best.jsonl"]
    found = [plan.plan for plan in best.plans.values()]
    assert [len(plan) for plan in found[:2]] == [1, 1]
    assert list(found[2]) == longer, "which brightens most"
