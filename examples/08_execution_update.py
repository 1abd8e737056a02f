"""The execution update: tools are trained under a plan, and an environment that shares them changes."""

import gymnasium as gym
import numpy as np
import torch

import opera_env  # noqa: F401 - registers the environments
from opera_env.cotraining import ExecutionConfig, ExecutionUpdate
from opera_env.data import bundled
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox

PLAN = ("unet.dejpeg", "unet.denoise")
torch.set_num_threads(1)
toolbox = Toolbox.load("lite").subset(PLAN)
source = bundled(canvas=64)
env = gym.make("OPERA-Restore-v0", toolbox=toolbox, reward="classic", source=source)
scorer = PlanScorer(toolbox, "classic")

# Each tool was trained alone, on one degradation. In a plan, the second tool gets the output of the first.
recipe, rng = ("noise", "jpeg"), np.random.default_rng(0)
val_samples = [source.make(spec) for spec in source.list_specs(16, [recipe], rng)]


def mean_psnr() -> float:
    outcomes = scorer.score(val_samples, [PLAN] * len(val_samples))
    return float(np.mean([outcome.metrics["psnr_y"] for outcome in outcomes]))


print(f"toolbox {toolbox.fingerprint}: {mean_psnr():.2f} dB")
update = ExecutionUpdate(env, ExecutionConfig(loss="pixel", lr=3e-4, epochs=4, steps_per_epoch=10))
for _ in range(40):
    samples = [source.make(spec) for spec in source.list_specs(8, [recipe], rng)]
    logs = update.step(samples, [PLAN] * len(samples))
    if update.steps % 10 == 0:
        print(f"step {update.steps}: loss {logs['loss']:.4f}, gradient norm {logs['grad_norm']:.2f}")
print(f"toolbox {toolbox.fingerprint}: {mean_psnr():.2f} dB")
