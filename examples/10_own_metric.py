"""A metric of your own in a reward, scored by an environment and by PlanScorer.

``features`` computes the edges of a reference once; ``values`` uses them for every restored image of that
reference. FunctionMetric in 03_own_reward.py is shorter where a metric is a single function.

Output:
    environment: plan ('smooth',) has reward 8.2
    no tool          edge error 0.179  R_q 1.0
    smooth           edge error 0.036  R_q 8.2
    darken           edge error 0.090  R_q 5.5
    smooth > smooth  edge error 0.019  R_q 9.1
"""

import gymnasium as gym
from torch.nn.functional import avg_pool2d

from opera_env.data import bundled
from opera_env.metrics import Metric
from opera_env.reward import Reward, RewardTerm
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import SampleSpec


class EdgeError(Metric):
    """Mean absolute difference between the horizontal edges of an image and of its reference."""

    name, higher_is_better, worst, needs_reference = "edge_error", False, 1.0, True

    def features(self, reference):
        return (reference.diff(dim=-1),)

    def values(self, images, reference):
        (reference_edges,) = reference
        return (images.diff(dim=-1) - reference_edges).abs().mean((1, 2, 3))


# R_q: 10 points, from an edge error of 0.2 (contributes 0) down to 0 (contributes 10).
reward = Reward("edges", (RewardTerm(EdgeError(), low=0.2, high=0.0, weight=10),))
toolbox = Toolbox().add("smooth", lambda image: avg_pool2d(image, 3, 1, 1, count_include_pad=False))
toolbox.add("darken", lambda image: 0.5 * image)

source = bundled(128)
env = gym.make("opera_env:OPERA-Restore-v0", toolbox=toolbox, reward=reward, source=source, max_tools=2)
env.reset(seed=0)
_, value, _, _, info = env.step([1, 0])  # the first tool, then STOP
print(f"environment: plan {info['plan']} has reward {value:.1f}")

sample = source.make(SampleSpec.from_json(info["sample"]))
plans = [(), ("smooth",), ("darken",), ("smooth", "smooth")]
outcomes = PlanScorer(toolbox, reward).score([sample] * len(plans), plans)
for plan, outcome in zip(plans, outcomes, strict=True):
    edge_error = outcome.metrics["edge_error"]
    print(f"{' > '.join(plan) or 'no tool':16} edge error {edge_error:.3f}  R_q {outcome.r_q:.1f}")
