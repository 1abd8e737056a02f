"""Experience of orders: schedules, files, and what is fitted."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from opera_env.data import SyntheticSource, clean_folder
from opera_env.degradations import DEGRADATIONS
from opera_env.errors import SampleError, ToolboxError
from opera_env.evaluation.experience import OrderExperience, fit_experience, tool_orders
from opera_env.execution import PrefixCache
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox

LABELS = ("a", "b", "c", "d")


@pytest.fixture
def source(photos: Path) -> SyntheticSource:
    return clean_folder(photos, canvas=64)


def test_without_experience_the_last_degradation_is_first() -> None:
    experience = OrderExperience(LABELS, {})
    assert experience.schedule(["b", "d", "a"]) == ["d", "b", "a"]
    assert experience.schedule(["other", "a"]) == ["a", "other"]


def test_gains_are_antisymmetric() -> None:
    experience = OrderExperience(LABELS, {("a", "b"): 0.5})
    assert (experience.gain("a", "b"), experience.gain("b", "a"), experience.gain("a", "c")) == (
        0.5,
        -0.5,
        0,
    )


@pytest.mark.parametrize("order", list(permutations(LABELS)))
def test_a_consistent_experience_gives_its_order(order: Sequence[str]) -> None:
    place = {name: index for index, name in enumerate(order)}
    gains = {
        (first, second): float(place[second] - place[first])
        for index, first in enumerate(LABELS)
        for second in LABELS[index + 1 :]
    }
    assert OrderExperience(LABELS, gains).schedule(LABELS) == list(order)


def test_a_file_keeps_everything(tmp_path: Path) -> None:
    ids = {"signature": "s", "fingerprint": "f"}
    experience = OrderExperience(LABELS, {("a", "b"): 0.25}, ids, "lite", "digest", 3)
    experience.write(tmp_path / "experience.json")
    assert OrderExperience.read(tmp_path / "experience.json") == experience


def test_pairs_without_two_different_tools_are_left_out(toolbox: Toolbox) -> None:
    orders = dict(tool_orders(toolbox, DEGRADATIONS))
    assert ("noise", "jpeg") not in orders, "one tool is for both"
    assert orders["haze", "low_light"] == [("tiny.darken", "tiny.brighten")]
    assert set(orders) == {
        *(("haze", other) for other in ("low_light", "noise", "low_resolution", "jpeg")),
        *(("low_light", other) for other in ("noise", "low_resolution", "jpeg")),
        *(("noise", "low_resolution"), ("low_resolution", "jpeg")),
    }


def test_a_gain_is_the_mean_difference_of_both_orders(toolbox: Toolbox, source: SyntheticSource) -> None:
    small = toolbox.subset(["tiny.brighten", "tiny.blur"])
    experience = fit_experience(source, PlanScorer(small, "classic", cache=PrefixCache()), 2, seed=3)
    again = fit_experience(source, PlanScorer(small, "classic", cache=PrefixCache()), 2, seed=3)
    assert experience == again and experience.samples == 2
    assert set(experience.gains) == {("low_light", "noise"), ("low_light", "jpeg")}

    scorer = PlanScorer(small, "classic")
    gains: list[float] = []
    key = (3, DEGRADATIONS.index("low_light"), DEGRADATIONS.index("noise"))
    recipes = [recipe for recipe in source.recipes if set(recipe) == {"low_light", "noise"}]
    for spec in source.list_specs(2, recipes, np.random.default_rng(key)):
        sample = source.make(spec)
        assert sample.degradations == {"low_light", "noise"}
        first, second = scorer.score(
            [sample] * 2, [("tiny.brighten", "tiny.blur"), ("tiny.blur", "tiny.brighten")]
        )
        gains.append(first.r_q - second.r_q)
    assert experience.gains["low_light", "noise"] == pytest.approx(np.mean(gains), abs=1e-3)


def test_a_toolbox_without_two_kinds_of_tools_is_an_error(
    toolbox: Toolbox, source: SyntheticSource, photos: Path
) -> None:
    with pytest.raises(ToolboxError, match="expected tools for at least two"):
        fit_experience(source, PlanScorer(toolbox.subset(["tiny.blur"]), "classic"))
    single = clean_folder(photos, canvas=64, recipes=[("noise",)])
    with pytest.raises(SampleError, match="expected recipes of"):
        fit_experience(single, PlanScorer(toolbox, "classic"))
