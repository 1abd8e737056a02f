"""A reward of your own: shipped metrics, metrics of pyiqa and functions, with bounds and weights."""

import gymnasium as gym

from opera_env.metrics import FunctionMetric, PyiqaMetric
from opera_env.reward import Reward, RewardTerm

contrast = FunctionMetric("contrast", lambda images: images.std((1, 2, 3)), worst=0.0)
vif = PyiqaMetric("vif", worst=0.0, higher_is_better=True, needs_reference=True)
own_reward = Reward(
    "own",
    (RewardTerm("psnr_y", 10, 40, weight=5), RewardTerm(vif, 0, 1, 4), RewardTerm(contrast, 0, 0.3, 1)),
)

env = gym.make("opera_env:OPERA-Restore-v0", reward=own_reward)
env.reset(seed=0)
_, reward, _, _, info = env.step(env.action_space.sample())
print(f"{reward:.2f} = {' + '.join(f'{value:.2f} {name}' for name, value in info['terms'].items())}")
