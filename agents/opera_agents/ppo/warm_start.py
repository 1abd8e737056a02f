"""The warm start of the stepwise policy: behaviour cloning of plans.

Without the warm start, the policy first learns that most tools harm most images, and from then on stops at
once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from numpy.random import Generator
from rich.progress import track
from sb3_contrib import MaskablePPO

from opera_agents.common.batches import draw_samples
from opera_agents.common.checkpoints import Budget
from opera_agents.common.plausible_plans import plausible_plan
from opera_agents.common.seeds import SeedStage, make_rng
from opera_agents.ppo.agent import PredictAgent
from opera_env.data import Source
from opera_env.data.images import quantise, resize
from opera_env.execution import Executor
from opera_env.plan import PlanCodec
from opera_env.schedules import set_learning_rate, warmup_cosine
from opera_env.tools import Toolbox
from opera_env.types import Observation, Plan, Sample

DrawPlans: TypeAlias = Callable[[Sequence[Sample], Generator], list[Plan]]
"""Returns a plan for each sample; the generator draws everything."""


def draw_plausible_plans(toolbox: Toolbox, labels: Sequence[str], max_tools: int) -> DrawPlans:
    """Returns the function that draws plausible plans.

    Args:
        toolbox: The tools.
        labels: All degradations, in the order in which recipes apply them.
        max_tools: Maximum number of tools in a plan.
    """
    return lambda samples, rng: [
        plausible_plan(toolbox, sample.degradations or frozenset(), rng, max_tools, labels=labels)
        for sample in samples
    ]


def run_warm_start(
    model: MaskablePPO,
    agent: PredictAgent,
    executor: Executor,
    source: Source,
    draw_plans: DrawPlans,
    steps: int,
    batch_size: int,
    seed: int,
) -> Budget:
    """Trains a policy to predict the next tool of plans after a random prefix.

    Args:
        model: The model whose policy is trained. The optimizer of PPO is not used.
        agent: The same policy as an agent, which encodes the observations.
        executor: Runs the prefixes of the plans. Nothing is scored.
        source: The training photographs.
        draw_plans: Returns the plans that are imitated.
        steps: Number of gradient steps.
        batch_size: Number of samples in a step.
        seed: Seed; every batch is a function of the seed and of the step.

    Returns:
        The cost of the warm start.
    """
    start_time = time.perf_counter()
    codec = PlanCodec(executor.toolbox.names, agent.max_tools)
    optimizer = torch.optim.AdamW([p for p in model.policy.parameters() if p.requires_grad], lr=1e-3)
    for step in track(range(steps), description="warm start"):
        rng = make_rng(seed, SeedStage.PPO_WARM_START, step)
        samples = draw_samples(source, batch_size, rng)
        plans = draw_plans(samples, rng)
        lengths = [int(rng.integers(len(plan) + 1)) for plan in plans]
        prefixes = [plan[:length] for plan, length in zip(plans, lengths, strict=True)]
        next_actions = [
            codec.encode(plan[length : length + 1])[0] for plan, length in zip(plans, lengths, strict=True)
        ]
        observations, _ = model.policy.obs_to_tensor(
            agent.encode_observations(_observe_after(executor, samples, prefixes, codec.max_tools))
        )
        actions = torch.as_tensor(next_actions, device=model.device)
        _, log_prob, _ = model.policy.evaluate_actions(observations, actions)  # pyright: ignore[reportArgumentType]
        set_learning_rate(optimizer, 1e-3 * warmup_cosine(step, steps, warmup=50, final=0.1))
        optimizer.zero_grad(set_to_none=True)
        (-log_prob.mean()).backward()
        optimizer.step()
    return Budget(tools_run=executor.tools_run, seconds=time.perf_counter() - start_time)


def _observe_after(
    executor: Executor, samples: Sequence[Sample], plans: Sequence[Plan], max_tools: int
) -> list[Observation]:
    """Returns what an agent observes after each plan, exactly as the environment shows it."""
    images = {(run.sample.key, run.plan): run.image for run in executor.run(samples, plans)}
    observations: list[Observation] = []
    for sample, plan in zip(samples, plans, strict=True):
        image, original = (
            quantise(resize(pixels[None], sample.canvas)[0]).float() / 255
            for pixels in (images[sample.key, plan], sample.lq)
        )
        observations.append(Observation(image.cpu(), original, plan, max_tools - len(plan), sample.size))
    return observations
