"""An agent of one's own beside others: the same images, the same scorer, one table of figures."""

import numpy as np

from opera_baselines.untouched import Untouched
from opera_env.data import bundled
from opera_env.degradations import benchmark_recipes
from opera_env.evaluation.compare import EvaluationConfig, compare_agents, summarise
from opera_env.tools import Toolbox
from opera_env.types import Decision


class DenoiseTheRough:
    """Denoises an image whose neighbouring pixels differ much, and leaves the others alone."""

    closed_loop = False

    def act(self, observations):
        rough = [observation.image.diff().abs().mean() > 0.12 for observation in observations]
        return [Decision(plan=("unet.denoise",) if is_rough else ()) for is_rough in rough]


source = bundled()
samples = [
    source.make(spec) for spec in source.list_specs(12, benchmark_recipes(), np.random.default_rng(0))
]
config = EvaluationConfig(reward="classic", regret=False)
agents = {"untouched": Untouched(), "mine": DenoiseTheRough()}
for name, row in summarise(compare_agents(agents, samples, Toolbox.load("lite"), config))["agents"].items():
    print(f"{name:10} {row['reward']['mean']:.2f}  {row['tools']:.1f} tools")
