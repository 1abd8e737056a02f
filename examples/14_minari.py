"""A Minari data set of the planner's and random plans, and a network that imitates the better half."""

import os
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from opera_env.agents import make_agent, run_agent
from opera_env.types import SampleSpec

os.environ.setdefault("MINARI_DATASETS_PATH", str(Path("minari").resolve()))  # minari reads it
import minari
from minari.data_collector import EpisodeBuffer

warnings.filterwarnings("ignore", module="minari")  # it asks for authors and links
NAME, EPISODES, MAX_TOOLS, SIDE = "opera/restore-v0", 32, 3, 64
torch.manual_seed(0)
env = gym.make(
    "opera_env:OPERA-Restore-v0", reward="classic", canvas=SIDE, obs_size=SIDE, max_tools=MAX_TOOLS
)
rules = env.unwrapped.rules
planner = make_agent("planner", toolbox=rules.toolbox, max_tools=MAX_TOOLS)

# An episode is one plan: the planner's, or a random one.
buffers = []
env.action_space.seed(0)
for episode in range(EPISODES):
    observation, info = env.reset(seed=episode)
    action = env.action_space.sample()
    if episode % 2 == 0:
        sample = rules.source.make(SampleSpec.from_json(info["sample"]))
        (plan,) = run_agent(planner, [sample.blind()], rules.scorer, MAX_TOOLS).plans
        action = rules.codec.encode(plan)
    after, reward, terminated, truncated, _ = env.step(action)
    observations, steps = np.stack([observation, after]), ([reward], [terminated], [truncated])
    buffers.append(EpisodeBuffer(episode, episode, None, observations, action[None], *steps))
if NAME in minari.list_local_datasets():
    minari.delete_dataset(NAME)
minari.create_dataset_from_buffers(
    NAME, buffers, env, algorithm_name="planner and random plans", data_format="arrow", jpeg_encoding=False
)
env.close()

# What loads it: any library for offline reinforcement learning, or a few lines of torch.
dataset = minari.load_dataset(NAME)
episodes = list(dataset.iterate_episodes())
rewards = np.array([episode.rewards.sum() for episode in episodes])
print(f"{len(episodes)} episodes; mean reward of the planner {rewards[::2].mean():.2f}, ", end="")
print(f"of random plans {rewards[1::2].mean():.2f}")
better = [
    episode for episode, reward in zip(episodes, rewards, strict=True) if reward >= np.median(rewards)
]
images = torch.tensor(np.stack([episode.observations[0] for episode in better])).permute(0, 3, 1, 2) / 255
actions = torch.tensor(np.stack([episode.actions[0] for episode in better]))

sizes = dataset.action_space.nvec.tolist()  # one more than there are tools, for each place in the plan
encoder = [nn.Conv2d(3, 16, 4, 4), nn.ReLU(), nn.Conv2d(16, 32, 4, 4), nn.ReLU(), nn.Flatten()]
network = nn.Sequential(*encoder, nn.Linear(32 * (SIDE // 16) ** 2, sum(sizes)))
optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
for epoch in range(1, 61):
    logits = network(images).split(sizes, dim=1)
    loss = sum(nn.functional.cross_entropy(part, actions[:, i]) for i, part in enumerate(logits))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if epoch % 20 == 0:
        print(f"epoch {epoch}: cross-entropy {loss.item() / len(sizes):.2f}")
