"""Episodes of agents that take tools back: plans, budgets and their end, alone and in ``run_agent``."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from opera_env.agents import run_agent
from opera_env.envs.observation import Episode, observe, steps_left, take_turn
from opera_env.errors import PlanParseError
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Decision, Observation, Sample


class Scripted:
    """Returns given decisions in turn, and keeps what it observed."""

    closed_loop = True

    def __init__(self, *decisions: Decision, uses_history: bool = True) -> None:
        self.decisions, self.uses_history = list(decisions), uses_history
        self.observed: list[Observation] = []

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        self.observed += observations
        return [self.decisions[min(len(self.observed), len(self.decisions)) - 1]] * len(observations)


def test_tools_that_were_taken_back_are_steps(samples: list[Sample]) -> None:
    episode = Episode(samples[0])
    take_turn(episode, Decision(("a", "b", "c")), 6)
    assert (episode.plan, steps_left(episode, 6), episode.done) == (("a", "b", "c"), 3, False)
    take_turn(episode, Decision(("d",), undo=2), 6)
    assert (episode.plan, steps_left(episode, 6), episode.turns) == (("a", "d"), 2, 2)
    take_turn(episode, Decision(("e", "f", "g")), 6)
    assert (episode.plan, episode.done) == (("a", "d", "e", "f"), True), "as many as were left"


@pytest.mark.parametrize(
    ("decision", "done"),
    [
        (Decision(()), True),
        (Decision((), undo=1), False),
        (Decision(("b",)), False),
        (Decision(("b",), finish=True), True),
        (Decision((), undo=1, finish=True), True),
    ],
)
def test_an_episode_ends_if_its_decision_says_so_or_is_empty(
    samples: list[Sample], decision: Decision, done: bool
) -> None:
    episode = Episode(samples[0], ("a",))
    take_turn(episode, decision, 6)
    assert episode.done == done


def test_more_than_was_applied_cannot_be_taken_back(samples: list[Sample]) -> None:
    episode = Episode(samples[0], ("a",))
    with pytest.raises(PlanParseError, match="at most the 1 tools of the plan so far, found 2"):
        take_turn(episode, Decision((), undo=2), 6)
    assert episode.plan == ("a",) and episode.turns == 0


def test_agents_observe_the_result_of_taking_back(samples: list[Sample], toolbox: Toolbox) -> None:
    decisions = (
        Decision(("tiny.darken",), reasoning="Too bright."),
        Decision(("tiny.blur",), undo=1, reasoning="It was not."),
        Decision((), finish=True),
    )
    agent, scorer = Scripted(*decisions), PlanScorer(toolbox, "classic")
    run = run_agent(agent, samples[:1], scorer, 6)
    assert run.plans == [("tiny.blur",)]
    first, second, third = agent.observed
    assert [seen.steps_left for seen in agent.observed] == [6, 5, 4]
    assert [len(seen.history) for seen in agent.observed] == [0, 1, 2]
    assert [turn.decision for turn in third.history] == list(decisions[:2])
    assert torch.equal(third.history[1].image, second.image)
    (expected,) = scorer.score(samples[:1], [("tiny.blur",)])
    assert torch.equal(third.image, expected.image()) and torch.equal(first.image, third.original)


def test_agents_without_history_do_not_get_it(samples: list[Sample], toolbox: Toolbox) -> None:
    agent = Scripted(Decision(("tiny.blur",)), uses_history=False)
    run_agent(agent, samples[:1], PlanScorer(toolbox, "classic"), 3)
    assert [seen.history for seen in agent.observed] == [()] * 3


def test_taking_back_for_ever_ends(samples: list[Sample], toolbox: Toolbox) -> None:
    class Undecided(Scripted):
        def act(self, observations: Sequence[Observation]) -> list[Decision]:
            self.observed += observations
            return [Decision(("tiny.blur",), undo=len(seen.used)) for seen in observations]

    agent = Undecided()
    assert run_agent(agent, samples[:1], PlanScorer(toolbox, "classic"), 4).plans == [("tiny.blur",)]
    assert len(agent.observed) == 4, "as many as tools may run"


def test_an_observation_has_the_steps_that_are_left(samples: list[Sample]) -> None:
    assert observe(Episode(samples[0], undone=2), 6).steps_left == 4
