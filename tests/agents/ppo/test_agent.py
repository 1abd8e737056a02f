"""``PredictAgent``: observations, actions, masks and files of models with ``predict``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO

from opera_agents.ppo.agent import PredictAgent, make_ppo
from opera_agents.ppo.features import policy_kwargs
from opera_agents.ppo.saved import CARD, WEIGHTS, AgentCard, load_agent, save_agent
from opera_agents.ppo.vec_env import OperaVecEnv
from opera_env.agents import make_agent, run_agent
from opera_env.cli import main
from opera_env.envs.observation import Episode, observe
from opera_env.errors import AgentError, MissingWeightsError, ToolboxMismatchError, WeightsIntegrityError
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Agent, Decision, Observation, Sample

MakeEnvs = Callable[..., OperaVecEnv]


class RecordingModel:
    """A model that predicts given actions and records its observations."""

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any], actions: Any):
        self.observation_space, self.action_space = observation_space, action_space
        self.actions = list(actions)
        self.observations: list[Any] = []
        self.deterministic: list[bool] = []

    def predict(self, observation: Any, deterministic: bool = False) -> tuple[Any, None]:
        self.deterministic.append(deterministic)
        self.observations.append(observation)
        return np.array(self.actions.pop(0)), None


class RecordingMaskableModel(RecordingModel):
    def __init__(self, *spaces_and_actions: Any):
        super().__init__(*spaces_and_actions)
        self.masks: list[Any] = []

    def predict(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, observation: Any, deterministic: bool = False, action_masks: Any = None
    ) -> tuple[Any, None]:
        self.masks.append(action_masks)
        return super().predict(observation, deterministic)


def observe_all(samples: Sequence[Sample], max_tools: int = 3) -> list[Observation]:
    return [observe(Episode(sample), max_tools) for sample in samples]


def make_card(toolbox: Toolbox, **options: Any) -> AgentCard:
    return AgentCard(toolbox.signature, toolbox.names, **{"max_tools": 3, "obs_size": 48} | options)


def test_closed_loop_observations_equal_the_environments(
    make_envs: MakeEnvs, samples: list[Sample], toolbox: Toolbox
) -> None:
    envs = make_envs("stepwise", num_envs=1, toolbox=toolbox)
    actions = [3, 1, 2]
    model = RecordingModel(envs.observation_space, envs.action_space, [[action] for action in actions])
    result = run_agent(
        PredictAgent(model, toolbox), samples[:1], PlanScorer(toolbox, "classic"), max_tools=3
    )
    assert result.plans == [("tiny.blur", "tiny.brighten", "tiny.darken")]

    rules = envs.envs.rules
    ((episode, observation, _),) = rules.reset(samples[:1])
    for encoded, action in zip(model.observations, actions, strict=True):
        assert encoded.keys() == observation.keys()
        for key, value in observation.items():
            assert np.array_equal(encoded[key][0], value), key
        observation = rules.step([episode], [np.int64(action)])[0].observation


def test_stop_ends_the_plan(make_envs: MakeEnvs, samples: list[Sample], toolbox: Toolbox) -> None:
    envs = make_envs("stepwise", toolbox=toolbox)
    model = RecordingModel(envs.observation_space, envs.action_space, [[0, 5], [0]])
    result = run_agent(
        PredictAgent(model, toolbox), samples[:2], PlanScorer(toolbox, "classic"), max_tools=3
    )
    assert result.plans == [(), ("tiny.identity",)]


def test_an_open_loop_model_predicts_a_whole_plan(
    make_envs: MakeEnvs, samples: list[Sample], toolbox: Toolbox
) -> None:
    envs = make_envs("one-shot", toolbox=toolbox)
    model = RecordingModel(envs.observation_space, envs.action_space, [[[1, 0, 2], [2, 2, 2]]])
    agent = PredictAgent(model, toolbox)
    assert not agent.closed_loop
    observations = observe_all(samples[:2], max_tools=2)
    assert agent.act(observations) == [Decision(("tiny.brighten",)), Decision(("tiny.darken",) * 2)]
    assert model.observations[0].shape == (2, 48, 48, 3)
    assert model.observations[0].dtype == np.uint8


def test_steps_are_limited_by_the_models_spaces(
    make_envs: MakeEnvs, samples: list[Sample], toolbox: Toolbox
) -> None:
    envs = make_envs("stepwise", toolbox=toolbox)  # max_tools=3
    model = RecordingModel(envs.observation_space, envs.action_space, [[5], [5], [5]])
    result = run_agent(
        PredictAgent(model, toolbox), samples[:1], PlanScorer(toolbox, "classic"), max_tools=6
    )
    assert result.plans == [("tiny.identity",) * 3]
    assert [encoded["steps_left"].item() for encoded in model.observations] == [3, 2, 1]


def test_a_model_may_observe_the_image_alone(samples: list[Sample], toolbox: Toolbox) -> None:
    image = spaces.Box(0, 255, (3, 24, 24), np.uint8)
    model = RecordingModel(image, spaces.Discrete(6), [[2], [0]])
    result = run_agent(
        PredictAgent(model, toolbox), samples[:1], PlanScorer(toolbox, "classic"), max_tools=4
    )
    assert result.plans == [("tiny.darken",)]
    assert model.observations[0].shape == (1, 24, 24, 3)


def test_masks_are_passed_to_models_that_take_them(
    make_envs: MakeEnvs, samples: list[Sample], toolbox: Toolbox
) -> None:
    envs = make_envs("stepwise", toolbox=toolbox)
    spaces_ = (envs.observation_space, envs.action_space)
    for sample, is_small in ((samples[0], False), (samples[-1], True)):
        for mask_upscale in (False, True):
            model = RecordingMaskableModel(*spaces_, [[4], [3], [0]])
            agent = PredictAgent(model, toolbox, mask_upscale=mask_upscale)
            run_agent(agent, [sample], PlanScorer(toolbox, "classic"), max_tools=3)
            first = [True] * 4 + [not mask_upscale or is_small, True]
            later = [True] * 4 + [not mask_upscale, True]
            assert [mask.tolist() for mask in model.masks] == [[first], [later], [later]]


@pytest.mark.parametrize("env_kind", ["one-shot", "stepwise"])
def test_models_of_stable_baselines_are_agents(
    env_kind: str, make_envs: MakeEnvs, samples: list[Sample], toolbox: Toolbox
) -> None:
    if env_kind == "one-shot":
        options = {"features_extractor_kwargs": {"features_dim": 8}}
        envs = make_envs(env_kind, toolbox=toolbox)
        model = PPO("CnnPolicy", envs, n_steps=2, batch_size=8, device="cpu", policy_kwargs=options)
    else:
        envs = make_envs(env_kind, toolbox=toolbox)
        model = MaskablePPO(
            "MultiInputPolicy", envs, n_steps=2, device="cpu", policy_kwargs=policy_kwargs(True)
        )
    agent = PredictAgent(model, toolbox)
    assert isinstance(agent, Agent)
    assert agent.act([]) == []
    before = torch.random.get_rng_state()
    result = run_agent(agent, samples, PlanScorer(toolbox, "classic"), max_tools=3)
    assert result.plans == run_agent(agent, samples, PlanScorer(toolbox, "classic"), max_tools=3).plans
    assert torch.equal(before, torch.random.get_rng_state())
    assert PredictAgent(model.policy, toolbox).act(observe_all(samples)) == agent.act(observe_all(samples))


@pytest.mark.parametrize("deterministic", [True, False])
def test_deterministic_is_passed_to_the_model(
    deterministic: bool, make_envs: MakeEnvs, samples: list[Sample], toolbox: Toolbox
) -> None:
    envs = make_envs("stepwise", toolbox=toolbox)
    model = RecordingModel(envs.observation_space, envs.action_space, [[0]])
    PredictAgent(model, toolbox, deterministic=deterministic).act(observe_all(samples[:1]))
    assert model.deterministic == [deterministic]
    assert PredictAgent(model, toolbox).deterministic


def test_sampled_actions_are_functions_of_seed_and_observation(
    samples: list[Sample], toolbox: Toolbox, tmp_path: Path
) -> None:
    card = make_card(toolbox)
    save_agent(card.build(), card, tmp_path)
    observations = observe_all(samples)
    agent = make_ppo(toolbox, tmp_path, deterministic=False)
    state = torch.random.get_rng_state()
    together = agent.act(observations)
    assert torch.equal(state, torch.random.get_rng_state()), "the global generator is not advanced"
    assert together == [agent.act([observation])[0] for observation in observations]
    assert together == list(reversed(agent.act(observations[::-1])))
    others = [make_ppo(toolbox, tmp_path, deterministic=False, seed=seed) for seed in range(1, 9)]
    assert len({tuple(decision.plan for decision in other.act(observations)) for other in others}) > 4
    greedy = make_ppo(toolbox, tmp_path).act(observations)
    assert greedy == make_ppo(toolbox, tmp_path, seed=5).act(observations)


def test_another_toolbox_raises(make_envs: MakeEnvs, toolbox: Toolbox) -> None:
    envs = make_envs("stepwise", toolbox=toolbox)
    model = RecordingModel(envs.observation_space, envs.action_space, [])
    with pytest.raises(ToolboxMismatchError, match="5 tools"):
        PredictAgent(model, toolbox.subset(["tiny.blur"]))
    with pytest.raises(ToolboxMismatchError, match="signature"):
        PredictAgent(model, toolbox, signature="another")


def test_other_spaces_raise(toolbox: Toolbox) -> None:
    image = spaces.Box(0, 255, (24, 24, 3), np.uint8)
    with pytest.raises(AgentError, match="Discrete"):
        PredictAgent(RecordingModel(image, spaces.Box(0, 1, (3,)), []), toolbox)
    with pytest.raises(AgentError, match="observes an image"):
        PredictAgent(RecordingModel(spaces.Box(0, 1, (7,)), spaces.Discrete(6), []), toolbox)
    with pytest.raises(AgentError, match="observes an image"):
        PredictAgent(
            RecordingModel(spaces.Dict({"image": image, "unknown": image}), spaces.Discrete(6), []), toolbox
        )


@pytest.mark.parametrize("observe_original", [False, True])
def test_saved_agent_is_loaded(
    observe_original: bool, toolbox: Toolbox, samples: list[Sample], tmp_path: Path
) -> None:
    card = make_card(
        toolbox, observe_original=observe_original, reward="classic", training={"total_timesteps": 3}
    )
    policy = card.build()
    save_agent(policy, card, tmp_path)
    assert (tmp_path / WEIGHTS).stat().st_size < 2.2 * sum(value.numel() for value in policy.parameters())
    loaded, loaded_card = load_agent(tmp_path)
    assert loaded_card == card
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, policy.state_dict()[key].half().float())
    agent = make_ppo(toolbox, tmp_path)
    assert agent.closed_loop
    expected = PredictAgent(loaded, toolbox, mask_upscale=card.mask_upscale)
    assert agent.act(observe_all(samples)) == expected.act(observe_all(samples))


def test_a_folder_is_compared_by_its_name(photos: Path, tmp_path: Path) -> None:
    """``ppo:FOLDER`` in the registry and on the command line plays the policy of that folder."""
    lite = Toolbox.load("lite").subset(["unet.denoise", "brighten.constant_shift"])
    lite.save(tmp_path / "toolbox")
    card = make_card(lite)
    save_agent(card.build(), card, tmp_path / "agent")
    agent = make_agent(f"ppo:{tmp_path / 'agent'}", toolbox=lite)
    assert isinstance(agent, PredictAgent) and agent.max_tools == 3
    with pytest.raises(MissingWeightsError, match="agnet"):
        make_agent(f"ppo:{tmp_path / 'agnet'}", toolbox=lite)
    name, target = f"ppo:{tmp_path / 'agent'}", tmp_path / "result.json"
    words = f"compare --images {photos} --n 2 --canvas 64 --reward classic --toolbox {tmp_path / 'toolbox'}"
    words += f" --no-sheet --agents untouched,{name} --json {target}"
    assert main(words.split()) == 0
    assert list(json.loads(target.read_text())["agents"]) == ["untouched", name]


def test_saved_agent_for_another_toolbox_raises(toolbox: Toolbox, tmp_path: Path) -> None:
    card = make_card(toolbox)
    save_agent(card.build(), card, tmp_path)
    reordered = toolbox.subset(list(reversed(toolbox.names)))
    with pytest.raises(ToolboxMismatchError, match=toolbox.signature):
        make_ppo(reordered, tmp_path)


@pytest.mark.parametrize(
    "values",
    [
        {"max_tools": 10**9},
        {"max_tools": 2.5},
        {"obs_size": 10**9},
        {"obs_size": True},
        {"tools": [1, 2]},
        {"signature": None},
        {"mask_upscale": "no"},
    ],
)
def test_cards_with_unusable_values_raise(values: dict[str, Any], toolbox: Toolbox, tmp_path: Path) -> None:
    card = make_card(toolbox)
    save_agent(card.build(), card, tmp_path)
    data = json.loads((tmp_path / CARD).read_text())
    (tmp_path / CARD).write_text(json.dumps(data | values))
    with pytest.raises(AgentError, match=rf"agent\.json: expected '?{next(iter(values))}"):
        load_agent(tmp_path)


def test_damaged_weights_raise(toolbox: Toolbox, tmp_path: Path) -> None:
    card = make_card(toolbox)
    save_agent(card.build(), card, tmp_path)
    data = bytearray((tmp_path / WEIGHTS).read_bytes())
    data[-5] ^= 1
    (tmp_path / WEIGHTS).write_bytes(data)
    with pytest.raises(WeightsIntegrityError, match=WEIGHTS):
        load_agent(tmp_path)
    (tmp_path / CARD).write_bytes(b"\xff" * 9)
    with pytest.raises(AgentError, match=CARD):
        load_agent(tmp_path)


def test_missing_files_and_files_of_another_kind_raise(toolbox: Toolbox, tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match=r"opera_agents\.ppo\.train"):
        make_ppo(toolbox, tmp_path)
    card = make_card(toolbox)
    save_agent(card.build(), make_card(toolbox, observe_original=True, max_tools=2), tmp_path)
    with pytest.raises(AgentError, match="weights"):
        make_ppo(toolbox, tmp_path)
    (tmp_path / CARD).write_text("{}")
    with pytest.raises(AgentError, match=r"agent\.json: expected the key 'signature'"):
        make_ppo(toolbox, tmp_path)


def test_simplecall_is_a_policy_that_was_rewarded_without_references(
    toolbox: Toolbox, tmp_path: Path
) -> None:
    code = "tests.own_rewards:never_called"
    cards = {name: make_card(toolbox, reward=name) for name in ("label_free", "lite")}
    cards["code"] = make_card(toolbox, reward=code)
    cards["warm"] = make_card(toolbox, reward="label_free", training={"warm_start_steps": 400})
    for name, card in cards.items():
        with torch.random.fork_rng():
            save_agent(card.build(), card, tmp_path / name)
    agent = make_agent(f"simplecall:{tmp_path / 'label_free'}", toolbox=toolbox)
    assert isinstance(agent, PredictAgent) and agent.closed_loop
    for name, found in (("lite", "lite: use"), ("code", f"{code}: use"), ("warm", "label_free and a warm")):
        with pytest.raises(AgentError, match=f"references and labels, found one of the reward {found}"):
            make_agent(f"simplecall:{tmp_path / name}", toolbox=toolbox)
    with pytest.raises(MissingWeightsError, match=r"ppo\.train .*--reward label_free"):
        make_agent("simplecall", toolbox=toolbox)
