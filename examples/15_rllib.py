"""RLlib trains an agent that writes whole plans, by PPO; compared with random plans."""

import gymnasium as gym
import numpy as np
import ray
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.tune import register_env

from opera_env.data import bundled
from opera_env.tools import Toolbox

TOOLS = ["unet.denoise", "unet.dejpeg", "brighten.gamma_correction"]


def make_env(config):
    """Makes the environment; RLlib's networks take images as floats."""
    env = gym.make(
        "opera_env:OPERA-Restore-v0",
        toolbox=Toolbox.load("lite").subset(TOOLS),
        source=bundled(canvas=64, recipes=[("noise",), ("low_light",)]),
        reward="classic",
        **config,
    )
    space = gym.spaces.Box(0, 1, env.observation_space.shape, np.float32)
    return gym.wrappers.TransformObservation(env, lambda image: np.float32(image / 255), space)


def play(env, choose, episodes=24):
    """Returns the mean reward of episodes of one step, always with the same images."""
    rewards = []
    for seed in range(episodes):
        observation, _ = env.reset(seed=seed)
        rewards.append(env.step(choose(observation))[1])
    return np.mean(rewards)


register_env("opera", make_env)
options = {"max_tools": 2, "obs_size": 64}
config = (
    PPOConfig()
    .environment("opera", env_config=options)
    .env_runners(num_env_runners=0, num_envs_per_env_runner=16)  # 0: in this process
    .training(lr=1e-3, gamma=1.0, train_batch_size=128, minibatch_size=32, num_epochs=4)
    .rl_module(model_config=DefaultModelConfig(conv_filters=[[16, 4, 4], [32, 4, 4], [32, 4, 4]]))
    .debugging(seed=0, log_level="ERROR")
)
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
algorithm = config.build_algo()
for update in range(1, 6):
    result = algorithm.train()
    print(f"update {update}: mean reward {result['env_runners']['episode_return_mean']:.2f}")

module, env = algorithm.get_module(), make_env(options)


def best_action(observation):
    """Returns the most probable plan: the largest logit of each of its places."""
    with torch.no_grad():
        output = module.forward_inference({"obs": torch.as_tensor(observation)[None]})
    logits = output["action_dist_inputs"][0].split(env.action_space.nvec.tolist())
    return np.array([part.argmax().item() for part in logits])


env.action_space.seed(0)
print(f"random plans: {play(env, lambda _: env.action_space.sample()):.2f}")
print(f"the agent:    {play(env, best_action):.2f}")
algorithm.stop()
ray.shutdown()
