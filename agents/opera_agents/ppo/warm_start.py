"""The warm start: plans that make sense, imitated step by step, as the planner imitates them at once.

Without it the first thing a stepwise agent learns is that most tools harm most images, and to stop.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
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
from opera_env.types import Observation, Plan, Sample


def imitate(
    model: MaskablePPO,
    agent: PredictAgent,
    executor: Executor,
    source: Source,
    steps: int,
    batch: int,
    seed: int,
) -> Budget:
    """Teaches a policy the next tool of plausible plans, at any place in them.

    Args:
        model: Whose policy learns; its own optimizer stays as it is.
        agent: The same policy as an agent: it knows how the policy sees.
        executor: Runs the beginnings of the plans. Nothing is judged.
        source: Photographs.
        steps: Gradient steps.
        batch: Photographs per step.
        seed: Of all that is drawn: every batch is a function of it and of the step.

    Returns:
        What it cost.
    """
    begin = time.perf_counter()
    codec = PlanCodec(executor.toolbox.names, agent.max_tools)
    optimizer = torch.optim.AdamW([p for p in model.policy.parameters() if p.requires_grad], lr=1e-3)
    for step in track(range(steps), description="warm start"):
        rng = make_rng(seed, SeedStage.PPO_WARM_START, step)
        samples = draw_samples(source, batch, rng)
        plans = [
            plausible_plan(executor.toolbox, sample.degradations or frozenset(), rng, codec.max_tools)
            for sample in samples
        ]
        cuts = [int(rng.integers(len(plan) + 1)) for plan in plans]
        following = [codec.encode(plan[cut : cut + 1])[0] for plan, cut in zip(plans, cuts, strict=True)]
        beginnings = [plan[:cut] for plan, cut in zip(plans, cuts, strict=True)]
        seen, _ = model.policy.obs_to_tensor(
            agent.encode_observations(_observe_after(executor, samples, beginnings, codec.max_tools))
        )
        actions = torch.as_tensor(following, device=model.device)
        _, log_probability, _ = model.policy.evaluate_actions(seen, actions)  # pyright: ignore[reportArgumentType]
        set_learning_rate(optimizer, 1e-3 * warmup_cosine(step, steps, warmup=50, final=0.1))
        optimizer.zero_grad(set_to_none=True)
        (-log_probability.mean()).backward()
        optimizer.step()
    return Budget(tools_run=executor.tools_run, seconds=time.perf_counter() - begin)


def _observe_after(
    executor: Executor, samples: Sequence[Sample], plans: Sequence[Plan], max_tools: int
) -> list[Observation]:
    """Returns what an agent sees after each plan, as the environment shows it."""
    found = {(one.sample.key, one.plan): one.image for one in executor.run(samples, plans)}
    observations: list[Observation] = []
    for sample, plan in zip(samples, plans, strict=True):
        image, original = (
            quantise(resize(part[None], sample.canvas)[0]).float() / 255
            for part in (found[sample.key, plan], sample.lq)
        )
        observations.append(Observation(image.cpu(), original, plan, max_tools - len(plan)))
    return observations
