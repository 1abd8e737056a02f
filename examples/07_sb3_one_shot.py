"""An agent of another library: PPO of Stable-Baselines3 learns whole plans; compared with random plans."""

import numpy as np
import torch
from stable_baselines3 import PPO

from opera_agents.ppo.agent import PredictAgent
from opera_agents.ppo.vec_env import OperaVecEnv
from opera_baselines.random import RandomPlans
from opera_env.data import bundled
from opera_env.degradations import benchmark_recipes
from opera_env.envs.vector import RestoreVectorEnv
from opera_env.evaluation.compare import EvaluationConfig, compare_agents
from opera_env.evaluation.report import summarise
from opera_env.tools import Toolbox

MAX_TOOLS = 2
torch.set_num_threads(1)
toolbox = Toolbox.load("lite").subset(
    ["unet.denoise", "nafnet.derain", "unet.dejpeg", "brighten.gamma_correction"]
)
source = bundled(canvas=64)
envs = OperaVecEnv(
    RestoreVectorEnv(
        num_envs=32, toolbox=toolbox, reward="classic", source=source, max_tools=MAX_TOOLS, obs_size=64
    )
)

# One step is one episode, so there is nothing to discount. In the stepwise environment gamma must be 1 too:
# the gains of the steps add up to the reward, and 0.99 would favour plans that are too short.
model = PPO(
    "CnnPolicy",
    envs,
    n_steps=4,
    batch_size=64,
    n_epochs=4,
    learning_rate=1e-3,
    gamma=1.0,
    seed=0,
    device="cpu",
    policy_kwargs={"features_extractor_kwargs": {"features_dim": 64}},
)
for update in range(1, 6):
    model.learn(envs.num_envs * model.n_steps, reset_num_timesteps=False)
    reward = np.mean([episode["r"] for episode in model.ep_info_buffer])
    print(f"update {update}: mean reward of the last episodes {reward:.2f}")

specs = source.list_specs(24, benchmark_recipes(), np.random.default_rng(0))
agents = {
    "random": RandomPlans(toolbox, MAX_TOOLS, seed=0),
    "ppo": PredictAgent(model, toolbox),
}
config = EvaluationConfig(reward="classic", max_tools=MAX_TOOLS, regret=False)
comparison = compare_agents(agents, [source.make(spec) for spec in specs], toolbox, config)
for name, row in summarise(comparison)["agents"].items():
    print(f"{name:8} {row['reward']['mean']:.2f}  {row['tools']:.1f} tools")
