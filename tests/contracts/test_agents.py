"""Contract of every installed agent: one decision for each image, known tools, at most ``max_tools``."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.metadata import entry_points

import pytest
import torch

from opera_agents.ppo.saved import AgentCard, save_agent
from opera_agents.rl_restore.agent import build_policy
from opera_env.agents import ENTRY_POINT_GROUP, agent_names, make_agent, run_agent
from opera_env.degradations import DEGRADATIONS
from opera_env.errors import AgentError, PlanParseError, ToolboxMismatchError, UnknownPresetError
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Agent, Decision, Observation, Sample, Search
from tests.agents.vlm.conftest import ChatServer

MAX_TOOLS = 3
AFTER_COLON = {"single": "tiny.blur", "mcts": "uniform"}
"""What agents need beside their names."""
POLICIES = {"simplecall": AgentCard.build, "rl_restore": build_policy}
"""Agents that come without weights: functions that make an untrained policy."""
ANSWER = "<think>Soft.</think><degradation>['noise']</degradation><answer>['tiny.blur']</answer>"
NEEDS_SERVER = ("api", "api_stepwise", "llm")
"""Agents that need the address of a server."""
TURN_BY_TURN = ("api_stepwise", "llm")
"""Those of them that answer several times."""
SLOW = ("vlm", "vlm_stepwise")
"""Agents with a language model, which takes seconds for an answer."""
NAMES = [name for name in agent_names() if name not in TURN_BY_TURN]
AGENTS = [
    pytest.param(point.name, marks=[pytest.mark.slow] * (point.name in SLOW))
    for point in entry_points(group=ENTRY_POINT_GROUP)
    if point.name not in TURN_BY_TURN and not hasattr(point.load(), "search")
]

MakeAgent = Callable[..., Agent]


@pytest.fixture(scope="module")
def lite() -> Toolbox:
    return Toolbox.load("lite")


@pytest.fixture(scope="module")
def complete(
    make_toolbox: Callable[[], Toolbox], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], str]]:
    """Returns the name of an agent with what it needs: a tool, the folder of a policy, or a server."""
    toolbox = make_toolbox()
    card = AgentCard(
        toolbox.signature, toolbox.names, max_tools=MAX_TOOLS, obs_size=32, reward="label_free"
    )

    @cache
    def add_inputs(name: str) -> str:
        if name == "api":
            return f"api:model@{server.url}"
        if name in POLICIES:
            folder = tmp_path_factory.mktemp(name)
            with torch.random.fork_rng():
                torch.manual_seed(0)
                save_agent(POLICIES[name](card), card, folder)
            return f"{name}:{folder}"
        return f"{name}:{AFTER_COLON[name]}" if name in AFTER_COLON else name

    server = ChatServer(ANSWER)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            patch.delenv(name, raising=False)
        yield add_inputs
    server.close()


@pytest.fixture(scope="module")
def needs_lite(
    make_toolbox: Callable[[], Toolbox], complete: Callable[[str], str]
) -> Callable[[str], bool]:
    """Returns whether an agent was trained for ``lite`` and refuses other tools."""

    @cache
    def refuses_others(name: str) -> bool:
        try:
            make_agent(complete(name), toolbox=make_toolbox())
        except ToolboxMismatchError:
            return True
        return False

    return refuses_others


@pytest.fixture
def toolbox(
    request: pytest.FixtureRequest,
    make_toolbox: Callable[[], Toolbox],
    needs_lite: Callable[[str], bool],
    lite: Toolbox,
) -> Toolbox:
    """The tiny toolbox; ``lite`` for an agent that needs it."""
    if "name" in request.fixturenames and needs_lite(request.getfixturevalue("name")):
        return lite
    return make_toolbox()


@pytest.fixture
def make(name: str, toolbox: Toolbox, complete: Callable[[str], str]) -> MakeAgent:
    def agent(seed: int = 0, max_tools: int = MAX_TOOLS) -> Agent:
        options = {"toolbox": toolbox, "max_tools": max_tools, "seed": seed, "tool_cost": 0.0}
        made = make_agent(complete(name), **options)
        assert isinstance(made, Agent)
        return made

    return agent


def observations(
    count: int, size: tuple[int, int] = (48, 64), steps_left: int = MAX_TOOLS
) -> list[Observation]:
    generator = torch.Generator().manual_seed(count)
    images = [torch.rand(3, *size, generator=generator) for _ in range(count)]
    return [Observation(image, image.clone(), (), steps_left) for image in images]


every_agent = pytest.mark.parametrize("name", AGENTS)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_an_agent_or_a_search(
    name: str, toolbox: Toolbox, complete: Callable[[str], str]
) -> None:
    agent = make_agent(complete(name), toolbox=toolbox, max_tools=MAX_TOOLS, seed=0, tool_cost=0.0)
    assert isinstance(agent, Agent) != isinstance(agent, Search)


def test_names_are_unique() -> None:
    assert len(agent_names()) == len(entry_points(group=ENTRY_POINT_GROUP))
    assert set(NEEDS_SERVER) | set(SLOW) <= set(agent_names())


@pytest.mark.parametrize("agent", [*NEEDS_SERVER, *(f"{name}:no-address" for name in NEEDS_SERVER)])
def test_agents_that_need_a_server_say_so(agent: str, toolbox: Toolbox) -> None:
    with pytest.raises(AgentError, match=r"expected \w+:MODEL@URL"):
        make_agent(agent, toolbox=toolbox)


@every_agent
def test_closed_loop_is_a_bool(make: MakeAgent) -> None:
    assert isinstance(make().closed_loop, bool)


@every_agent
@pytest.mark.parametrize("count", [0, 1, 5])
def test_one_decision_per_observation(make: MakeAgent, toolbox: Toolbox, count: int) -> None:
    """Agents that name degradations have an attribute ``degradations`` with the labels that they know."""
    agent = make()
    decisions = agent.act(observations(count))
    assert len(decisions) == count
    for decision in decisions:
        assert isinstance(decision, Decision)
        assert isinstance(decision.plan, tuple)
        assert set(decision.plan) <= set(toolbox.names)
        assert len(decision.plan) <= MAX_TOOLS
        if decision.degradations is not None:
            assert decision.degradations <= set(agent.degradations)  # pyright: ignore[reportAttributeAccessIssue]
            assert agent.degradations == DEGRADATIONS  # pyright: ignore[reportAttributeAccessIssue]
        assert decision.error is None or isinstance(decision.error, PlanParseError)


@every_agent
@pytest.mark.parametrize("max_tools", [1, 2, 6])
def test_plans_keep_to_max_tools(make: MakeAgent, max_tools: int) -> None:
    decisions = make(max_tools=max_tools).act(observations(40, steps_left=max_tools))
    assert all(len(decision.plan) <= max_tools for decision in decisions)


@every_agent
@pytest.mark.parametrize("size", [(33, 47), (128, 128), (5, 300)], ids=str)
def test_images_of_any_size(make: MakeAgent, size: tuple[int, int]) -> None:
    assert len(make().act(observations(2, size))) == 2


@every_agent
def test_equal_seeds_give_equal_decisions(make: MakeAgent) -> None:
    """Whatever the state of the global generators."""
    runs = []
    for disturbance in (1, 2):
        torch.manual_seed(disturbance)
        random.seed(disturbance)
        agent = make(seed=5)
        runs.append([decision for _ in range(3) for decision in agent.act(observations(4))])
    assert runs[0] == runs[1]


@every_agent
def test_decisions_do_not_depend_on_other_images_or_earlier_calls(make: MakeAgent) -> None:
    """A photograph gets the same plan alone, in a batch, in another order and in a resumed run."""
    agent, observed = make(seed=5), observations(6)
    together = agent.act(observed)
    assert agent.act(observed[::-1])[::-1] == together
    assert [make(seed=5).act([observation])[0] for observation in observed] == together


@every_agent
def test_global_generators_are_not_advanced(make: MakeAgent) -> None:
    before = torch.random.get_rng_state()
    make(seed=5).act(observations(3))
    assert torch.equal(before, torch.random.get_rng_state())


@every_agent
def test_images_are_not_modified(make: MakeAgent) -> None:
    observed = observations(3)
    make().act(observed)
    for observation, expected in zip(observed, observations(3), strict=True):
        assert torch.equal(observation.image, expected.image)
        assert torch.equal(observation.original, expected.original)


@every_agent
def test_plans_can_be_scored(make: MakeAgent, toolbox: Toolbox, samples: list[Sample]) -> None:
    scorer = PlanScorer(toolbox, "classic")
    result = run_agent(make(), samples, scorer, MAX_TOOLS)
    assert len(result.plans) == len(samples)
    assert all(len(plan) <= MAX_TOOLS for plan in result.plans)
    assert len(scorer.score(samples, result.plans)) == len(samples)


class _ClosedLoop:
    """Darkens until the image is dark, which requires an observation after each tool."""

    closed_loop = True

    def __init__(self) -> None:
        self.observations: list[Observation] = []

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        self.observations += observations
        return [
            Decision(("tiny.darken",) if observation.image.mean() > 0.3 else ())
            for observation in observations
        ]


def test_a_closed_loop_agent_observes_each_result(toolbox: Toolbox, samples: list[Sample]) -> None:
    """It observes the image after each of its tools, and the original."""
    agent = _ClosedLoop()
    (plan,) = run_agent(agent, samples[:1], PlanScorer(toolbox, "classic"), max_tools=4).plans
    assert plan == ("tiny.darken",) * len(plan) and 1 <= len(plan) <= 4
    assert [observation.used for observation in agent.observations] == [
        plan[:length] for length in range(len(agent.observations))
    ]
    assert [observation.steps_left for observation in agent.observations] == [
        4 - length for length in range(len(agent.observations))
    ]
    brightness = [observation.image.mean().item() for observation in agent.observations]
    assert all(later < earlier for earlier, later in zip(brightness, brightness[1:], strict=False))
    assert all(torch.equal(observation.original, samples[0].lq) for observation in agent.observations)


class _Broken:
    closed_loop = False

    def __init__(self, plans: list[tuple[str, ...]]) -> None:
        self.plans = plans

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        return [Decision(plan) for plan in self.plans]


@pytest.mark.parametrize("plans", [[()], [()] * 9, [("tiny.blur",) * 4] * 4], ids=["few", "many", "long"])
def test_wrong_numbers_and_lengths_of_plans_raise(
    toolbox: Toolbox, samples: list[Sample], plans: list[tuple[str, ...]]
) -> None:
    with pytest.raises(AgentError, match=r"expected|at most"):
        run_agent(_Broken(plans), samples, PlanScorer(toolbox, "classic"), MAX_TOOLS)


def test_unknown_agents_raise() -> None:
    with pytest.raises(UnknownPresetError, match=r"'nobody'.*untouched"):
        make_agent("nobody")
    with pytest.raises(AgentError, match="cannot be imported"):
        make_agent("opera_env.nowhere:Nobody")
    for neither in ("fractions:Fraction", "string:digits"):
        with pytest.raises(AgentError, match="expected"):
            make_agent(neither)


@pytest.fixture(autouse=True)
def _unchanged_threads() -> Iterator[None]:
    """An agent must not change the number of threads of the process."""
    before = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == before
