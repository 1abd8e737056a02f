"""Plans for degradations that a person has named."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from opera_env.errors import OutputError, UnknownDegradationError
from opera_env.restoration import Restorer, RestorerConfig
from opera_env.restoration.fix import MAX_CANDIDATES, FixSearch
from opera_env.tools import Toolbox
from opera_env.types import Outcome, Plan, Sample, SampleSpec


def make_toolbox(tools_for: dict[str, list[str]]) -> Toolbox:
    """A toolbox whose tools return their input; ``{"noise": ["a", "b"]}`` names two for noise."""
    toolbox = Toolbox()
    for degradation, names in tools_for.items():
        for name in names:
            toolbox.add(name, lambda image: image, degradations=[degradation])
    return toolbox


class FixedScorer:
    """Scores plans by a table; a plan that is not in it scores 5."""

    def __init__(self, scores: dict[Plan, float]) -> None:
        self.scores, self.tried = scores, list[Plan]()

    @property
    def tool_names(self) -> tuple[str, ...]:
        return ()

    def score(
        self, samples: Sequence[Sample], plans: Sequence[Plan], *, restored: bool = True
    ) -> list[Outcome]:
        self.tried += plans
        return [Outcome(None, r_q=self.scores.get(plan, 5.0), num_tools=len(plan)) for plan in plans]


SAMPLE = Sample(torch.zeros(3, 8, 8), None, None, (8, 8), SampleSpec("photograph", 0))


def test_the_last_damage_is_restored_first_whatever_order_is_named() -> None:
    toolbox = make_toolbox({"haze": ["dehaze"], "jpeg": ["dejpeg"], "noise": ["denoise"]})
    for named in (("haze", "noise", "jpeg"), ("jpeg", "haze", "noise"), ("noise", "jpeg", "haze", "jpeg")):
        assert FixSearch(toolbox, named).candidates == [("dejpeg", "denoise", "dehaze")]


def test_all_combinations_are_scored_and_the_best_is_kept() -> None:
    toolbox = make_toolbox({"noise": ["n1", "n2"], "haze": ["h1", "h2"]})
    scorer = FixedScorer({("n2", "h1"): 7.0, (): 9.0})
    (decision,) = FixSearch(toolbox, ("haze", "noise")).decide([SAMPLE], scorer)
    assert sorted(scorer.tried) == [(), ("n1", "h1"), ("n1", "h2"), ("n2", "h1"), ("n2", "h2")]
    assert decision.plan == ("n2", "h1"), "the unchanged photograph scores higher, but it is no candidate"
    assert decision.degradations == {"haze", "noise"}


def test_many_combinations_are_limited_to_the_first_tools() -> None:
    toolbox = make_toolbox(
        {name: [f"{name}.{number}" for number in range(5)] for name in ("noise", "haze", "rain")}
    )
    candidates = FixSearch(toolbox, ("noise", "haze", "rain")).candidates
    assert len(candidates) == 27 <= MAX_CANDIDATES
    assert ("noise.0", "haze.0", "rain.0") in candidates


def test_one_tool_for_two_degradations_is_applied_once() -> None:
    toolbox = Toolbox().add("all", lambda image: image, degradations=["noise", "jpeg"])
    assert FixSearch(toolbox, ("noise", "jpeg")).candidates == [("all",)]


def test_own_degradations_of_a_toolbox_can_be_named() -> None:
    toolbox = make_toolbox({"scratches": ["inpaint"], "noise": ["denoise"]})
    assert FixSearch(toolbox, ("scratches", "noise")).candidates == [("denoise", "inpaint")]


def test_a_degradation_without_a_tool_is_refused() -> None:
    with pytest.raises(UnknownDegradationError, match=r"'fog'; use one of noise[^:]*\.$"):
        FixSearch(make_toolbox({"noise": ["denoise"]}), ("noise", "fog"))


def test_more_degradations_than_the_longest_plan_are_refused() -> None:
    with pytest.raises(OutputError, match=r"at most 1 degradations.*found 2"):
        FixSearch(make_toolbox({"noise": ["a"], "haze": ["b"]}), ("noise", "haze"), max_tools=1)


def test_a_restorer_applies_the_chosen_plan_and_keeps_all_scores() -> None:
    toolbox = make_toolbox({"noise": ["denoise"]}).add(
        "brighten", lambda image: (image + 0.2).clamp(0, 1), degradations=["low_light"]
    )
    image = torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(0)) * 0.5
    result = Restorer(toolbox, RestorerConfig(fix=("low_light", "noise"))).restore(image)
    assert result.decision.plan == ("denoise", "brighten")
    assert set(result.scores) == {(), ("denoise", "brighten")}
    prefers_photograph = result.scores[()] > result.scores["denoise", "brighten"]
    expected = "prefers the photograph as it is" if prefers_photograph else "the unchanged photograph"
    assert result.reason is not None and expected in result.reason
    assert torch.allclose(result.image, image + 0.2, atol=1e-5)
