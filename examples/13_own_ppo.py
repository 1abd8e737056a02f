"""PPO in one file, as in CleanRL: rollout, advantages, loss and step on the native vector environment."""

import gymnasium as gym
import torch
from torch import nn
from torch.distributions import Categorical

from opera_env.data import bundled
from opera_env.tools import Toolbox

NUM_ENVS, NUM_STEPS, UPDATES, EPOCHS, MINIBATCH = 16, 6, 6, 4, 32
GAMMA, GAE_LAMBDA, CLIP, ENTROPY, LR = (
    1.0,
    0.95,
    0.2,
    0.01,
    1e-3,
)  # gains add up to the reward for gamma = 1
torch.manual_seed(0)

toolbox = Toolbox.load("lite").subset(["unet.denoise", "unet.dejpeg", "brighten.gamma_correction"])
source = bundled(canvas=64, recipes=[("noise",), ("low_light",)])
options = {"toolbox": toolbox, "source": source, "reward": "classic", "max_tools": 2, "obs_size": 32}
envs = gym.make_vec("opera_env:OPERA-RestoreStepwise-v0", NUM_ENVS, "vector_entry_point", **options)


class Agent(nn.Module):
    """A policy and a value function that see the image and the steps that are left."""

    def __init__(self, num_actions):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 16, 4, 2), nn.ReLU(), nn.Conv2d(16, 32, 4, 2), nn.ReLU())
        self.policy, self.value = nn.Linear(33, num_actions), nn.Linear(33, 1)

    def forward(self, image, steps_left):
        features = torch.cat([self.encoder(image / 255).mean((2, 3)), steps_left[:, None]], 1)
        return Categorical(logits=self.policy(features)), self.value(features)[:, 0]


def to_tensors(observation):
    image = torch.as_tensor(observation["image"], dtype=torch.float32).permute(0, 3, 1, 2)
    return image, torch.as_tensor(observation["steps_left"], dtype=torch.float32)


agent = Agent(envs.single_action_space.n)
optimizer = torch.optim.Adam(agent.parameters(), lr=LR)
observation, _ = envs.reset(seed=0)
for update in range(1, UPDATES + 1):
    rollout = []
    for _ in range(NUM_STEPS):
        inputs = to_tensors(observation)
        with torch.no_grad():
            distribution, value = agent(*inputs)
        action = distribution.sample()
        observation, reward, terminated, _, _ = envs.step(action.numpy())
        ends = (torch.as_tensor(x, dtype=torch.float32) for x in (reward, terminated))
        rollout.append((*inputs, action, distribution.log_prob(action), value, *ends))
    *batch, values, rewards, dones = (torch.stack(column) for column in zip(*rollout, strict=True))
    with torch.no_grad():
        next_value, advantage = agent(*to_tensors(observation))[1], torch.zeros(NUM_ENVS)
    advantages = torch.zeros_like(rewards)
    for step in reversed(range(NUM_STEPS)):  # an episode that has ended is followed by another one
        delta = rewards[step] + GAMMA * next_value * (1 - dones[step]) - values[step]
        advantage = delta + GAMMA * GAE_LAMBDA * (1 - dones[step]) * advantage
        advantages[step], next_value = advantage, values[step]
    batch = [x.flatten(0, 1) for x in (*batch, advantages, advantages + values)]
    for indices in (i for _ in range(EPOCHS) for i in torch.randperm(len(batch[0])).split(MINIBATCH)):
        image, left, action, old_log_prob, advantage, target = (x[indices] for x in batch)
        distribution, value = agent(image, left)
        ratio = (distribution.log_prob(action) - old_log_prob).exp()
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        policy_loss = -torch.min(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage).mean()
        value_loss = (value - target).square().mean()
        loss = policy_loss + 0.5 * value_loss - ENTROPY * distribution.entropy().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
        optimizer.step()
    print(f"update {update}: mean return of an episode {(rewards.sum() / dones.sum()).item():+.2f}")
envs.close()
