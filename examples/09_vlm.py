"""A vision-language model plans in words: shown how to answer, then trained by TRL on what its plans earn.

Everything here is tiny, to be seen in a minute; docs/vlm.md has the commands of a run that learns something.
"""

from pathlib import Path
from shutil import copy
from tempfile import mkdtemp

import numpy as np
import skimage.data
from trl import GRPOConfig, ModelConfig

from opera_agents.vlm import cold_start, grpo
from opera_agents.vlm.agent import VLMAgent
from opera_agents.vlm.cold_start import ColdStartConfig
from opera_agents.vlm.grpo import WorldArguments
from opera_env.data import clean_folder
from opera_env.data.sources import BUNDLED
from opera_env.play import play
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox

folder = Path(mkdtemp())
photos = folder / "photos"
photos.mkdir()
for name in BUNDLED:
    copy(Path(skimage.data.data_dir) / name, photos)

# A model of 1.8 M parameters is built and shown a few answers: labels, a plausible plan, and why.
small = {"canvas": 64, "reward": "classic", "val_count": 4, "threads": 1}
cold_start.train(ColdStartConfig(photos, photos, folder / "cold", steps=12, batch=8, device="cpu", **small))

# TRL samples groups of answers; the scorer runs their plans. Any of TRL's options can be given.
world = WorldArguments(str(photos), str(photos), photographs=16, **small)
training = GRPOConfig(
    output_dir=str(folder / "grpo"),
    max_steps=2,
    per_device_train_batch_size=8,
    num_generations=4,
    max_completion_length=48,
    bf16=False,
    use_cpu=True,
    gradient_checkpointing=False,
    report_to="none",
)
grpo.train(world, training, ModelConfig(str(folder / "cold" / "model")))

# What it wrote about a photograph, whether or not that can be read after so little training.
toolbox, source = Toolbox.load("lite"), clean_folder(photos, 64)
sample = source.make(source.draw(np.random.default_rng(0)))
agent = VLMAgent(toolbox, folder / "grpo" / "model", longest=48)
played = play(agent, [sample], PlanScorer(toolbox, "classic"), 6)
print(f"wrong with it: {', '.join(sorted(sample.degradations or ()))}")
print(agent.answers[0])
print(f"its plan: {' > '.join(played.plans[0]) or 'nothing to be done'}")
