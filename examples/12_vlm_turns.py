"""A vision-language model calls tools, sees their results, and TRL trains it on the reward of its episodes.

A tiny model is built offline. It learns to call tools from conversations about the shipped planner's plans,
and two steps of GRPO change little: docs/vlm.md has the commands of full runs.
"""

from pathlib import Path
from shutil import copy
from tempfile import mkdtemp

import numpy as np
import skimage.data
from trl import GRPOConfig, ModelConfig

from opera_agents.planner.saved import SHIPPED
from opera_agents.vlm import grpo, warm_start
from opera_agents.vlm.config import EnvArguments
from opera_agents.vlm.stepwise import make_vlm_stepwise
from opera_agents.vlm.warm_start_config import VLMWarmStartConfig
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

# The form of calls: a plan tool by tool, with the real result of each tool. The planner's encoder is kept.
warm_config = VLMWarmStartConfig(
    (photos,),
    photos,
    folder / "warm",
    answer_kind="turns",
    planner=SHIPPED,
    encoder=SHIPPED / "planner.safetensors",
    steps=60,
    batch_size=4,
    max_tools=3,
    canvas=64,
    val_count=2,
    reward="classic",
    threads=1,
)
warm_start.train(warm_config)

# TRL plays groups of episodes, in which the model calls tools. Every option of TRL can be given.
env_args = EnvArguments([str(photos)], str(photos), turns=True, judge="none", max_tools=3, canvas=64)
env_args.reward, env_args.num_samples, env_args.val_count, env_args.threads = "classic", 16, 2, 1
training_args = GRPOConfig(
    output_dir=str(folder / "run"),
    max_steps=2,
    per_device_train_batch_size=4,
    num_generations=4,
    max_completion_length=256,
    learning_rate=5e-5,
    bf16=False,
    use_cpu=True,
    gradient_checkpointing=False,
    report_to="none",
)
grpo.train(env_args, training_args, ModelConfig(str(folder / "warm" / "model")))

toolbox, source = Toolbox.load("lite"), clean_folder(photos, canvas=64)
sample = source.make(source.draw(np.random.default_rng(0)))
agent = make_vlm_stepwise(toolbox, max_tools=3, path=folder / "run" / "model")
run = run_agent(agent, [sample], PlanScorer(toolbox, "classic"), 3)
print(f"degradations: {', '.join(sorted(sample.degradations or ()))}")
print(f"plan: {' > '.join(run.plans[0]) or 'no tool'}, last call: {agent.completions[0]}")
