"""A plain Gymnasium loop: random plans on bundled photographs. Renders the last episode to a file."""

import gymnasium as gym
from PIL import Image

env = gym.make("opera_env:OPERA-Restore-v0", reward="classic", render_mode="rgb_array")
for seed in range(5):
    observation, info = env.reset(seed=seed)
    observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
    print(f"{' + '.join(info['degradations']):40} {reward:5.2f}  {' > '.join(info['plan'])}")
Image.fromarray(env.render()).save("gym_loop.png")
