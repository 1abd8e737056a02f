"""An agent of your own compared with another: the same samples, the same scorer, one table."""

import numpy as np

from opera_baselines.untouched import Untouched
from opera_env.data import bundled
from opera_env.degradations import benchmark_recipes
from opera_env.evaluation.compare import EvaluationConfig, compare_agents
from opera_env.evaluation.report import summarise
from opera_env.tools import Toolbox
from opera_env.types import Decision


class DenoiseNoisyImages:
    """Denoises an image if neighbouring pixels differ much, and leaves the others unchanged."""

    closed_loop = False

    def act(self, observations):
        noisy = [observation.image.diff().abs().mean() > 0.12 for observation in observations]
        return [Decision(plan=("unet.denoise",) if is_noisy else ()) for is_noisy in noisy]


source = bundled()
samples = [
    source.make(spec) for spec in source.list_specs(12, benchmark_recipes(), np.random.default_rng(0))
]
config = EvaluationConfig(reward="classic", regret=False)
agents = {"untouched": Untouched(), "own": DenoiseNoisyImages()}
for name, row in summarise(compare_agents(agents, samples, Toolbox.load("lite"), config))["agents"].items():
    print(f"{name:10} {row['reward']['mean']:.2f}  {row['tools']:.1f} tools")
