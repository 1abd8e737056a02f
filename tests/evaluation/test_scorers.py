"""Scorers that keep outcomes."""

from __future__ import annotations

from opera_env.evaluation.scorers import CachingScorer, RecordingScorer, RememberingScorer
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Sample


def test_a_plan_is_scored_once(samples: list[Sample], toolbox: Toolbox) -> None:
    scorer = PlanScorer(toolbox, "classic")
    caching_scorer = CachingScorer(scorer)
    first = caching_scorer.score(samples, [("tiny.blur",)] * len(samples))
    count = scorer.images_scored
    again = caching_scorer.score(samples, [("tiny.blur",)] * len(samples))
    assert scorer.images_scored == count == len(samples)
    assert [outcome.r_q for outcome in again] == [outcome.r_q for outcome in first]


def test_the_best_reward_includes_the_tool_cost(samples: list[Sample], toolbox: Toolbox) -> None:
    caching_scorer = CachingScorer(PlanScorer(toolbox, "classic"))
    plans = [(), ("tiny.blur",)]
    none, blur = caching_scorer.score([samples[0]] * 2, plans)
    assert caching_scorer.best_reward(samples[0], plans, 0.0) == max(none.r_q, blur.r_q)
    assert caching_scorer.best_reward(samples[0], plans, 100.0) == none.r_q


def test_recorded_outcomes_are_not_scored_again(samples: list[Sample], toolbox: Toolbox) -> None:
    final, searching = PlanScorer(toolbox, "classic"), PlanScorer(toolbox, "classic")
    cache = CachingScorer(final)
    outcomes = RecordingScorer(searching, cache).score(samples, [()] * len(samples), restored=False)
    assert cache.score(samples, [()] * len(samples)) == outcomes
    assert final.images_scored == 0


def test_recorded_outcomes_are_kept_without_images(toolbox: Toolbox, samples: list[Sample]) -> None:
    """A search that looks at images would otherwise fill the memory with them."""
    cache = CachingScorer(PlanScorer(toolbox, "classic"))
    (outcome,) = RecordingScorer(PlanScorer(toolbox, "classic"), cache).score(samples[:1], [()])
    assert outcome.restored is not None
    (kept,) = cache.score(samples[:1], [()])
    assert kept.restored is None and kept.r_q == outcome.r_q


def test_outcomes_are_remembered_with_their_images(toolbox: Toolbox, samples: list[Sample]) -> None:
    scorer = PlanScorer(toolbox, "classic")
    remembering = RememberingScorer(scorer)
    sample = samples[0]
    (plain,) = remembering.score([sample], [("tiny.blur",)], restored=False)
    assert plain.restored is None and remembering.seconds_reused == 0
    plans = [(), ("tiny.blur",)]
    outcomes = remembering.score([sample] * 2, plans)  # the image of the first one is not there
    assert scorer.images_scored == 3 and all(outcome.restored is not None for outcome in outcomes)
    again = remembering.score([sample] * 2, plans)
    assert all(one is other for one, other in zip(again, outcomes, strict=True))
    assert scorer.images_scored == 3 and remembering.seconds_reused > 0
    assert remembering.score([samples[1]], [()])[0] is not again[0]
