"""Models play by the contract of agents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO

from opera_agents.ppo.agent import PredictAgent, load_ppo
from opera_agents.ppo.features import policy_kwargs
from opera_agents.ppo.saved import CARD, WEIGHTS, AgentCard, load_agent, save_agent
from opera_agents.ppo.vec_env import OperaVecEnv
from opera_env.agents import run_agent
from opera_env.envs.observation import Episode, observe
from opera_env.errors import AgentError, MissingWeightsError, ToolboxMismatchError
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Agent, Decision, Observation, Sample

MakeEnvs = Callable[..., OperaVecEnv]


class Remembers:
    """Answers with given actions, and remembers what it was asked."""

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any], answers: Any):
        self.observation_space, self.action_space = observation_space, action_space
        self.answers = list(answers)
        self.asked: list[Any] = []

    def predict(self, observation: Any, deterministic: bool = False) -> tuple[Any, None]:
        assert deterministic
        self.asked.append(observation)
        return np.array(self.answers.pop(0)), None


class RemembersMasks(Remembers):
    def __init__(self, *spaces_and_answers: Any):
        super().__init__(*spaces_and_answers)
        self.masks: list[Any] = []

    def predict(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, observation: Any, deterministic: bool = False, action_masks: Any = None
    ) -> tuple[Any, None]:
        self.masks.append(action_masks)
        return super().predict(observation, deterministic)


def seen_of(samples: Sequence[Sample], max_tools: int = 3) -> list[Observation]:
    return [observe(Episode(sample), max_tools) for sample in samples]


def read_card(toolbox: Toolbox, **options: Any) -> AgentCard:
    return AgentCard(toolbox.signature, toolbox.names, **{"max_tools": 3, "obs_size": 48} | options)


def test_a_closed_loop_sees_what_the_environment_shows(
    make_envs: MakeEnvs, samples: list[Sample], toolbox: Toolbox
) -> None:
    envs = make_envs("stepwise", num_envs=1, toolbox=toolbox)
    actions = [3, 1, 2]
    model = Remembers(envs.observation_space, envs.action_space, [[action] for action in actions])
    played = run_agent(
        PredictAgent(model, toolbox), samples[:1], PlanScorer(toolbox, "classic"), max_tools=3
    )
    assert played.plans == [("tiny.blur", "tiny.brighten", "tiny.darken")]

    rules = envs.envs.rules
    ((episode, observation, _),) = rules.reset(samples[:1])
    for asked, action in zip(model.asked, actions, strict=True):
        assert asked.keys() == observation.keys()
        for key, value in observation.items():
            assert np.array_equal(asked[key][0], value), key
        observation = rules.step([episode], [np.int64(action)])[0].observation


def test_stop_ends_the_plan(make_envs: MakeEnvs, samples: list[Sample], toolbox: Toolbox) -> None:
    envs = make_envs("stepwise", toolbox=toolbox)
    model = Remembers(envs.observation_space, envs.action_space, [[0, 5], [0]])
    played = run_agent(
        PredictAgent(model, toolbox), samples[:2], PlanScorer(toolbox, "classic"), max_tools=3
    )
    assert played.plans == [(), ("tiny.identity",)]


def test_an_open_loop_writes_a_plan(make_envs: MakeEnvs, samples: list[Sample], toolbox: Toolbox) -> None:
    envs = make_envs("one-shot", toolbox=toolbox)
    model = Remembers(envs.observation_space, envs.action_space, [[[1, 0, 2], [2, 2, 2]]])
    agent = PredictAgent(model, toolbox)
    assert not agent.closed_loop
    observations = seen_of(samples[:2], max_tools=2)
    assert agent.act(observations) == [Decision(("tiny.brighten",)), Decision(("tiny.darken",) * 2)]
    assert model.asked[0].shape == (2, 48, 48, 3)
    assert model.asked[0].dtype == np.uint8


def test_no_more_steps_than_the_model_knows(
    make_envs: MakeEnvs, samples: list[Sample], toolbox: Toolbox
) -> None:
    envs = make_envs("stepwise", toolbox=toolbox)  # of three tools
    model = Remembers(envs.observation_space, envs.action_space, [[5], [5], [5]])
    played = run_agent(
        PredictAgent(model, toolbox), samples[:1], PlanScorer(toolbox, "classic"), max_tools=6
    )
    assert played.plans == [("tiny.identity",) * 3]
    assert [asked["steps_left"].item() for asked in model.asked] == [3, 2, 1]


def test_a_model_may_see_the_image_alone(samples: list[Sample], toolbox: Toolbox) -> None:
    image = spaces.Box(0, 255, (3, 24, 24), np.uint8)
    model = Remembers(image, spaces.Discrete(6), [[2], [0]])
    played = run_agent(
        PredictAgent(model, toolbox), samples[:1], PlanScorer(toolbox, "classic"), max_tools=4
    )
    assert played.plans == [("tiny.darken",)]
    assert model.asked[0].shape == (1, 24, 24, 3)


def test_masks_are_passed_to_who_takes_them(
    make_envs: MakeEnvs, samples: list[Sample], toolbox: Toolbox
) -> None:
    envs = make_envs("stepwise", toolbox=toolbox)
    spaces_ = (envs.observation_space, envs.action_space)
    for mask_upscale in (False, True):
        model = RemembersMasks(*spaces_, [[4], [3], [0]])
        agent = PredictAgent(model, toolbox, mask_upscale=mask_upscale)
        run_agent(agent, samples[:1], PlanScorer(toolbox, "classic"), max_tools=3)
        allowed = [True] * 4 + [not mask_upscale, True]
        assert [mask.tolist() for mask in model.masks] == [[[True] * 6], [allowed], [allowed]]


@pytest.mark.parametrize("game", ["one-shot", "stepwise"])
def test_models_of_stable_baselines_play(
    game: str, make_envs: MakeEnvs, samples: list[Sample], toolbox: Toolbox
) -> None:
    if game == "one-shot":
        options = {"features_extractor_kwargs": {"features_dim": 8}}
        envs = make_envs(game, toolbox=toolbox)
        model = PPO("CnnPolicy", envs, n_steps=2, batch_size=8, device="cpu", policy_kwargs=options)
    else:
        envs = make_envs(game, toolbox=toolbox)
        model = MaskablePPO(
            "MultiInputPolicy", envs, n_steps=2, device="cpu", policy_kwargs=policy_kwargs(True)
        )
    agent = PredictAgent(model, toolbox)
    assert isinstance(agent, Agent)
    assert agent.act([]) == []
    before = torch.random.get_rng_state()
    played = run_agent(agent, samples, PlanScorer(toolbox, "classic"), max_tools=3)
    assert played.plans == run_agent(agent, samples, PlanScorer(toolbox, "classic"), max_tools=3).plans
    assert torch.equal(before, torch.random.get_rng_state())
    assert PredictAgent(model.policy, toolbox).act(seen_of(samples)) == agent.act(seen_of(samples))


def test_another_toolbox_is_refused(make_envs: MakeEnvs, toolbox: Toolbox) -> None:
    envs = make_envs("stepwise", toolbox=toolbox)
    model = Remembers(envs.observation_space, envs.action_space, [])
    with pytest.raises(ToolboxMismatchError, match="5 tools"):
        PredictAgent(model, toolbox.subset(["tiny.blur"]))
    with pytest.raises(ToolboxMismatchError, match="signature"):
        PredictAgent(model, toolbox, signature="another")


def test_other_spaces_are_refused(toolbox: Toolbox) -> None:
    image = spaces.Box(0, 255, (24, 24, 3), np.uint8)
    with pytest.raises(AgentError, match="Discrete"):
        PredictAgent(Remembers(image, spaces.Box(0, 1, (3,)), []), toolbox)
    with pytest.raises(AgentError, match="observes an image"):
        PredictAgent(Remembers(spaces.Box(0, 1, (7,)), spaces.Discrete(6), []), toolbox)
    with pytest.raises(AgentError, match="observes an image"):
        PredictAgent(
            Remembers(spaces.Dict({"image": image, "smell": image}), spaces.Discrete(6), []), toolbox
        )


@pytest.mark.parametrize("original", [False, True])
def test_a_saved_agent_is_read_back(
    original: bool, toolbox: Toolbox, samples: list[Sample], tmp_path: Path
) -> None:
    card = read_card(toolbox, original=original, reward="classic", training={"steps": 3})
    policy = card.build()
    save_agent(policy, card, tmp_path)
    assert (tmp_path / WEIGHTS).stat().st_size < 2.2 * sum(value.numel() for value in policy.parameters())
    found, read = load_agent(tmp_path)
    assert read == card
    for key, value in found.state_dict().items():
        assert torch.equal(value, policy.state_dict()[key].half().float())
    agent = load_ppo(tmp_path, toolbox)
    assert agent.closed_loop
    assert agent.act(seen_of(samples)) == PredictAgent(found, toolbox).act(seen_of(samples))


def test_a_saved_agent_refuses_another_toolbox(toolbox: Toolbox, tmp_path: Path) -> None:
    card = read_card(toolbox)
    save_agent(card.build(), card, tmp_path)
    reordered = toolbox.subset(list(reversed(toolbox.names)))
    with pytest.raises(ToolboxMismatchError, match=toolbox.signature):
        load_ppo(tmp_path, reordered)


def test_files_of_something_else_are_refused(toolbox: Toolbox, tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match=r"opera_agents\.ppo\.train"):
        load_ppo(tmp_path, toolbox)
    card = read_card(toolbox)
    save_agent(card.build(), read_card(toolbox, original=True, max_tools=2), tmp_path)
    with pytest.raises(AgentError, match="weights"):
        load_ppo(tmp_path, toolbox)
    (tmp_path / CARD).write_text("{}")
    with pytest.raises(AgentError, match="description"):
        load_ppo(tmp_path, toolbox)
