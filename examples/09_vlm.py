"""A vision-language model plans in words, and TRL trains it on the rewards of its plans.

The model has 1.8 M parameters and comes with the package. Two steps change little: docs/vlm.md has the
commands of full runs, and of a model of 7 B parameters.
"""

from pathlib import Path
from shutil import copy
from tempfile import mkdtemp

import numpy as np
import skimage.data
from trl import GRPOConfig, ModelConfig

from opera_agents.vlm import grpo
from opera_agents.vlm.agent import SHIPPED, VLMAgent
from opera_agents.vlm.config import EnvArguments
from opera_env.agents import run_agent
from opera_env.data import clean_folder
from opera_env.data.sources import BUNDLED_IMAGES
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox

folder = Path(mkdtemp())
photos = folder / "photos"
photos.mkdir()
for name in BUNDLED_IMAGES:
    copy(Path(skimage.data.data_dir) / name, photos)

# TRL samples groups of answers; the scorer runs their plans. Every option of TRL can be given.
env_args = EnvArguments(
    [str(photos)], str(photos), reward="classic", num_samples=16, val_count=4, threads=1
)
training_args = GRPOConfig(
    output_dir=str(folder / "run"),
    max_steps=2,
    per_device_train_batch_size=8,
    num_generations=4,
    max_completion_length=96,
    learning_rate=5e-5,
    bf16=False,
    use_cpu=True,
    gradient_checkpointing=False,
    report_to="none",
)
grpo.train(env_args, training_args, ModelConfig(str(SHIPPED)))

toolbox, source = Toolbox.load("lite"), clean_folder(photos)
sample = source.make(source.draw(np.random.default_rng(0)))
agent = VLMAgent.from_pretrained(toolbox, folder / "run" / "model")
result = run_agent(agent, [sample], PlanScorer(toolbox, "classic"), 6)
print(f"degradations: {', '.join(sorted(sample.degradations or ()))}")
print(agent.completions[0])
print(f"plan: {' > '.join(result.plans[0]) or 'no tool'}")
