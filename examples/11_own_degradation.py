"""A custom degradation: vignetting, with a tool that corrects it, in an environment and in a comparison."""

import gymnasium as gym
import numpy as np
import torch

from opera_baselines.matched import Matched
from opera_baselines.untouched import Untouched
from opera_env.data import bundled
from opera_env.degradations import Stage, to_uint8
from opera_env.evaluation.compare import EvaluationConfig, compare_agents
from opera_env.evaluation.report import summarise
from opera_env.tools import Toolbox


class Vignette:
    """The corners of an image are darker than its centre.

    Recipes and samples know it by its name; the stage is its place in the order of degradations.
    """

    name, stage = "vignette", Stage.LENS

    def __init__(self, strength=0.7):
        self.strength = strength  # how much darker the corners are, from 0 to 1

    def draw(self, rng):
        """Returns a vignette of another strength; `rng` is the only source of randomness."""
        return Vignette(rng.uniform(0.5, 0.9))

    def __call__(self, image, rng, depth=None):
        """Degrades uint8 RGB (H, W, 3); `depth` is (H, W), or None where no depth map exists."""
        y, x = (np.linspace(-1, 1, side) for side in image.shape[:2])
        return to_uint8(image * (1 - self.strength * (y[:, None] ** 2 + x**2) / 2)[..., None])


def correct_vignette(image, strength=0.7):
    """Brightens the corners of float RGB (B, 3, H, W) in [0, 1]."""
    y, x = (torch.linspace(-1, 1, side) for side in image.shape[-2:])
    return (image / (1 - strength * (y[:, None] ** 2 + x**2) / 2)).clamp(0, 1)


# Recipes mix own and built-in degradations. Without recipes, all plausible orders of up to three are drawn.
recipes = [("vignette",), ("vignette", "noise"), ("low_light", "vignette"), ("rain", "vignette", "jpeg")]
source = bundled(recipes=recipes, degradations=[Vignette()])
toolbox = Toolbox.load("lite")
toolbox.add("own.correct_vignette", correct_vignette, degradations=["vignette"])

env = gym.make("opera_env:OPERA-Restore-v0", toolbox=toolbox, reward="classic", source=source)
_, info = env.reset(seed=1)
action = np.zeros(env.action_space.shape, int)  # 0 stops, n is the tool number n
action[0] = len(toolbox)
_, reward, *_ = env.step(action)
print(f"{' + '.join(info['degradations'])}: {reward:.2f} after the correction of the vignette")

specs = source.list_specs(12, recipes, np.random.default_rng(0))
samples = [source.make(spec) for spec in specs]
agents = {"untouched": Untouched(), "matched": Matched(toolbox)}
config = EvaluationConfig(reward="classic", regret=False)
for name, row in summarise(compare_agents(agents, samples, toolbox, config))["agents"].items():
    print(f"{name:10} {row['reward']['mean']:.2f}  {row['tools']:.1f} tools")
