"""Choices among scored results: eagerness, variants, strength, and what an eager person suspects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from opera_env.errors import OutputError
from opera_env.restoration import Restorer, RestorerConfig, planning
from opera_env.restoration.choice import (
    STRENGTHS,
    best_strength,
    best_variants,
    blend,
    choose_plan,
    eager_bonus,
    likely_plans,
    suspected_plans,
)
from opera_env.tools import Toolbox
from opera_env.types import Decision, Plan, Sample, Scorer

SCORES = {(): 7.0, ("a",): 6.5, ("a", "b"): 7.3, ("b",): 5.0}


def test_eagerness_moves_the_choice_between_leaving_alone_and_acting() -> None:
    assert [choose_plan(SCORES, 0.1, eager) for eager in (0.0, 0.45, 0.5, 1.0)] == [
        (),
        (),
        ("a", "b"),
        ("a", "b"),
    ]
    hopeless = {(): 7.0, ("a",): 5.5}
    assert choose_plan(hopeless, 0.1, 0.8) == () and choose_plan(hopeless, 0.1, 1.0) == ("a",)
    assert [eager_bonus(value) for value in (0, 0.5, 1)] == [-2, 0, 2]


def test_an_eager_person_suspects_what_is_less_probable() -> None:
    toolbox = Toolbox.load("lite").subset(["unet.denoise", "unet.dejpeg", "unet.dehaze"])
    probabilities = {"haze": 0.3, "noise": 0.6, "jpeg": 0.1}
    assert suspected_plans(toolbox, probabilities, 0.5, 6) == [("unet.denoise",)]
    assert suspected_plans(toolbox, probabilities, 0.75, 6) == [
        ("unet.denoise",),
        ("unet.dehaze",),
        ("unet.denoise", "unet.dehaze"),
    ]
    assert suspected_plans(toolbox, probabilities, 0.95, 2)[-1] == ("unet.dejpeg", "unet.denoise")
    assert suspected_plans(toolbox, {"rain": 0.9}, 0.9, 6) == [], "no tool is for rain"


def test_variants_are_the_best_plans_with_tools() -> None:
    assert best_variants(SCORES, 0.1, 2) == [("a", "b"), ("a",)]
    assert best_variants(SCORES, 1.0, 5) == [("a",), ("a", "b"), ("b",)]
    assert best_variants({(): 7.0}, 0.1, 3) == []


def test_a_blend_lies_between_the_photograph_and_the_result() -> None:
    before, after = torch.zeros(3, 4, 4), torch.full((3, 4, 4), 0.8)
    assert blend(before, after, 1) is after
    assert blend(before, after, 0.25).unique().tolist() == pytest.approx([0.2])
    assert best_strength({0.25: 6.0, 0.5: 7.0, 1.0: 7.0}) == 1.0


@pytest.fixture
def image() -> Tensor:
    rng = np.random.default_rng(0)
    smooth = np.kron(rng.random((3, 8, 8)), np.ones((1, 16, 16)))
    return torch.from_numpy(0.35 * smooth + 0.1).float()


def test_a_given_strength_mixes_the_photograph_with_the_result(image: Tensor) -> None:
    plan = ("brighten.gamma_correction",)
    toolbox = Toolbox.load("lite")
    full = Restorer(toolbox, RestorerConfig(plan=plan)).restore(image).image
    half = Restorer(toolbox, RestorerConfig(plan=plan, strength=0.5)).restore(image)
    assert half.strength == 0.5
    torch.testing.assert_close(half.image, (image + full) / 2)
    enlarged = Restorer(toolbox, RestorerConfig(plan=plan, strength=0.5, scale=2)).restore(image).image
    assert enlarged.shape == (3, 256, 256)


def test_the_critic_chooses_the_strength(image: Tensor) -> None:
    toolbox = Toolbox.load("lite").subset(["brighten.gamma_correction"])
    config = RestorerConfig(fix=("low_light",), strength=None)
    result = Restorer(toolbox, config).restore(image)
    assert tuple(result.strengths) == STRENGTHS
    assert result.strength == best_strength(result.strengths)
    assert result.strengths[1.0] == pytest.approx(result.scores[("brighten.gamma_correction",)], abs=1e-4)
    full = Restorer(toolbox, RestorerConfig(fix=("low_light",))).restore(image).image
    torch.testing.assert_close(result.image, blend(image, full, result.strength))


def test_eagerness_acts_or_leaves_alone(image: Tensor) -> None:
    toolbox = Toolbox.load("lite").subset(["brighten.gamma_correction", "brighten.constant_shift"])
    plans = []
    for eager in (0.0, 1.0):
        restorer = Restorer(toolbox, RestorerConfig(agent="greedy", eager=eager))
        result = restorer.restore(image)
        assert result.decision.plan == choose_plan(result.scores, 0.1, eager)
        assert f"eagerness {eager:g} adds" in (result.reason or "")
        plans.append(result.decision.plan)
    assert plans[0] == () and plans[1]


def test_eagerness_needs_an_agent_whose_plans_are_scored() -> None:
    toolbox = Toolbox.load("lite")
    with pytest.raises(OutputError, match=r"--eager 0.7 needs plans with scores, and detect writes one"):
        Restorer(toolbox, RestorerConfig(agent="detect", eager=0.7))
    given = Restorer(toolbox, RestorerConfig(plan=()))
    with pytest.raises(OutputError, match="one plan is given"):
        given.require_scores("--variants 2")


class _Satisfied:
    """A search that sees hardly anything and tries no tool."""

    def search(self, samples: Sequence[Sample], scorer: Scorer) -> list[Plan]:
        return [decision.plan for decision in self.decide(samples, scorer)]

    def decide(self, samples: Sequence[Sample], scorer: Scorer) -> list[Decision]:
        scorer.score(samples, [()])
        return [Decision((), probabilities={"noise": 0.01, "low_light": 0.02, "jpeg": 0.0})]


def test_variants_are_tried_even_if_the_agent_tries_none(monkeypatch: pytest.MonkeyPatch) -> None:
    toolbox = Toolbox.load("lite")
    assert likely_plans(toolbox, {"noise": 0.01, "low_light": 0.02}) == [
        ("brighten.gamma_correction",),
        ("unet.denoise",),
    ]
    monkeypatch.setattr(planning, "make_agent", lambda *names, **settings: _Satisfied())
    image = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0))
    for variants in (0, 2):
        result = Restorer(toolbox, RestorerConfig(variants=variants)).restore(image)
        tried = [(), ("brighten.gamma_correction",), ("unet.denoise",)][: 1 + variants]
        assert list(result.scores) == tried
        assert result.decision.plan == choose_plan(result.scores, 0.1, 0.5)


class _FarSighted:
    """A search that sees photographs of any size, and keeps what it saw and what was scored."""

    sees_photographs = True

    def search(self, samples: Sequence[Sample], scorer: Scorer) -> list[Plan]:
        self.seen = [sample.size for sample in samples]
        (outcome,) = scorer.score(samples, [("brighten.constant_shift",)])
        self.scored = outcome.image().shape
        return [("brighten.constant_shift",)]


@pytest.mark.parametrize(("scale", "seen"), [(1, (40, 400)), (2, (32, 32))])
def test_an_agent_may_see_the_whole_photograph_while_plans_are_scored_on_a_window(
    monkeypatch: pytest.MonkeyPatch, scale: int, seen: tuple[int, int]
) -> None:
    search = _FarSighted()
    monkeypatch.setattr(planning, "make_agent", lambda *names, **settings: search)
    restorer = Restorer(Toolbox.load("lite"), RestorerConfig(window=32, scale=scale))
    result = restorer.restore(torch.rand(3, 40, 400, generator=torch.Generator().manual_seed(0)))
    assert search.seen == [seen]
    assert search.scored == (3, 32 * scale, 32 * scale)
    assert result.decision.plan == ("brighten.constant_shift",)
    assert result.image.shape == (3, 40 * scale, 400 * scale)
