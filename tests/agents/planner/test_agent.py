"""The trained planner as an agent and, with several plans, as a search."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from opera_agents.planner.agent import BestOfN, Planner, make_planner
from opera_agents.planner.saved import PolicyCard, load_policy, save_policy, save_weights
from opera_env.agents import make_agent, run_agent
from opera_env.envs.observation import Episode, observe
from opera_env.errors import AgentError, MissingWeightsError, ToolboxMismatchError
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Observation, Sample, Search


@pytest.fixture
def folder(toolbox: Toolbox, tmp_path: Path) -> Path:
    """A folder with an untrained policy for the tiny toolbox, whose plans have all lengths."""
    card = PolicyCard(toolbox.signature, toolbox.names, max_tools=3)
    torch.manual_seed(2)
    policy = card.build()
    with torch.no_grad():
        policy.head.weight.mul_(3)
    save_policy(policy, card, tmp_path)
    return tmp_path


def test_saved_policy_is_loaded(folder: Path, toolbox: Toolbox) -> None:
    policy, card = load_policy(folder)
    assert card == PolicyCard(toolbox.signature, toolbox.names, max_tools=3)
    save_policy(policy, card, folder)
    again, _ = load_policy(folder)
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), again.parameters(), strict=True))


def test_toolbox_with_other_tools_is_refused(folder: Path, toolbox: Toolbox) -> None:
    toolbox.add("own.tool", torch.nn.Identity())
    with pytest.raises(ToolboxMismatchError, match=r"own\.tool.*train one"):
        make_planner(toolbox, path=folder)


def test_missing_and_broken_files_are_named_in_errors(folder: Path, toolbox: Toolbox) -> None:
    with pytest.raises(MissingWeightsError, match=r"planner\.json"):
        make_planner(toolbox, path=folder / "nowhere")
    save_weights(torch.nn.Linear(2, 2), folder / "planner.safetensors")
    with pytest.raises(AgentError, match="not the weights"):
        make_planner(toolbox, path=folder)
    (folder / "planner.json").write_text('{"tools": []}')
    with pytest.raises(AgentError, match=r"planner\.json: expected the key 'signature'"):
        make_planner(toolbox, path=folder)


def test_decisions_do_not_depend_on_other_images_of_the_batch(folder: Path, toolbox: Toolbox) -> None:
    planner = make_agent(f"planner:{folder}", toolbox=toolbox)
    assert isinstance(planner, Planner)
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, *size, generator=generator) for size in ((40, 56), (64, 64), (40, 56), (7, 90))]
    observations = [Observation(image, image) for image in images]
    sampling_planner = Planner(planner.policy, planner.card, seed=0)
    for agent in (planner, sampling_planner):
        together = agent.act(observations)
        assert together == [agent.act([observation])[0] for observation in observations]
        assert together == list(reversed(agent.act(observations[::-1])))
        assert agent.act([]) == []
    other_seed = Planner(planner.policy, planner.card, seed=1)
    assert planner.act(observations) != sampling_planner.act(observations) != other_seed.act(observations)


def test_plans_are_cut_to_max_tools(folder: Path, toolbox: Toolbox) -> None:
    images = [torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(seed)) for seed in range(12)]
    observations = [Observation(image, image) for image in images]
    long = make_planner(toolbox, max_tools=3, path=folder).act(observations)
    short = make_planner(toolbox, max_tools=1, path=folder).act(observations)
    assert [decision.plan[:1] for decision in long] == [decision.plan for decision in short]


class RecordingScorer:
    """A scorer that records the samples, plans and outcomes."""

    def __init__(self, scorer: PlanScorer) -> None:
        self.scorer, self.recorded = scorer, []
        self.tool_names = scorer.tool_names

    def score(self, samples, plans, *, restored=True):
        outcomes = self.scorer.score(samples, plans, restored=restored)
        self.recorded += list(zip(samples, plans, outcomes, strict=True))
        return outcomes


@pytest.mark.parametrize("tool_cost", [0.0, 0.4])
def test_best_of_several_plans_is_kept(
    folder: Path, toolbox: Toolbox, samples: list[Sample], tool_cost: float
) -> None:
    recorder = RecordingScorer(PlanScorer(toolbox, "classic"))
    search = make_planner(toolbox, max_tools=3, num_plans=6, tool_cost=tool_cost, path=folder)
    assert isinstance(search, BestOfN) and isinstance(search, Search)
    plans = run_agent(search, samples, recorder, 3).plans
    alone = make_planner(toolbox, max_tools=3, path=folder)
    for sample, plan in zip(samples, plans, strict=True):
        tried = {
            tried_plan: outcome.r_q - tool_cost * len(tried_plan)
            for one, tried_plan, outcome in recorder.recorded
            if one is sample
        }
        assert 2 < len(tried) <= 7
        assert tried[plan] == max(tried.values())
        assert () in tried and alone.act([observe(Episode(sample), 3)])[0].plan in tried


def test_sampled_plans_do_not_depend_on_other_images_or_earlier_calls(
    folder: Path, toolbox: Toolbox, samples: list[Sample]
) -> None:
    """A photograph gets the same plans alone, in a batch, in another order and in a resumed run."""

    def tried(search: Search, order: list[Sample]) -> dict[str, set[tuple[str, ...]]]:
        recorder = RecordingScorer(PlanScorer(toolbox, "classic"))
        run_agent(search, order, recorder, 3)
        plans: dict[str, set[tuple[str, ...]]] = {}
        for sample, plan, _ in recorder.recorded:
            plans.setdefault(sample.key, set()).add(plan)
        return plans

    def make(seed: int) -> Search:
        search = make_planner(toolbox, max_tools=3, num_plans=4, seed=seed, path=folder)
        assert isinstance(search, Search)
        return search

    search = make(3)
    together = tried(search, samples)
    assert tried(search, samples[::-1]) == together
    alone: dict[str, set[tuple[str, ...]]] = {}
    for sample in samples:
        alone |= tried(make(3), [sample])
    assert alone == together != tried(make(4), samples)


def test_more_plans_never_lower_the_reward(folder: Path, toolbox: Toolbox, samples: list[Sample]) -> None:
    scorer = PlanScorer(toolbox, "classic")
    rewards = []
    for count in (1, 4, 16):
        agent = make_planner(toolbox, max_tools=3, num_plans=count, seed=3, path=folder)
        plans = run_agent(agent, samples, scorer, 3).plans
        rewards.append(sum(outcome.r_q for outcome in scorer.score(samples, plans)))
    assert rewards[0] <= rewards[1] + 1e-6 and rewards[0] <= rewards[2] + 1e-6
