"""A warm start from a table of rewards: a value network learns it, and the decoder imitates its choices.

The table holds a few thousand samples. The value network generalises from them, and labels as many new
draws as the decoder needs. The encoder and the labels stay as they are: plans change, not what is seen.

Source: a departure from the paper, whose model starts from pre-training and explores by itself. A small
    policy that starts from plausible plans seldom samples long plans and repeats, and does not learn what
    they are worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from rich.progress import track
from torch import Tensor
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from opera_agents.common.batches import draw_samples, observe_batch, prefetch
from opera_agents.common.checkpoints import load_checkpoint, save_checkpoint
from opera_agents.common.seeds import SeedStage, make_rng
from opera_agents.planner.candidates import candidate_plans
from opera_agents.planner.config import PlannerConfig
from opera_agents.planner.plan_value import PlanValue, train_value
from opera_agents.planner.policy import PlanPolicy, completion_mask
from opera_agents.planner.reward_table import RewardTable
from opera_agents.planner.saved import load_weights, save_weights
from opera_agents.planner.warm_start import CHECKPOINT_INTERVAL
from opera_env.data import Source
from opera_env.degradations import DEGRADATIONS
from opera_env.plan import STOP, PlanCodec
from opera_env.schedules import set_learning_rate, warmup_cosine
from opera_env.tools import Toolbox
from opera_env.types import Sample

VALUE_FILE, IMITATION_FILE = "value.safetensors", "imitation.safetensors"
"""Files of a run: the value network, and the policy whose decoder imitates its choices. The encoder of that
policy is the one that the value network was trained with."""

_ENCODE_CHUNK = 64
"""Samples that are made and encoded together."""

HELD_OUT_FRACTION = 0.1
"""Fraction of the table's photographs on which the epochs of the value network are compared."""


@torch.inference_mode()
def encode_table(policy: PlanPolicy, table: RewardTable, source: Source) -> Tensor:
    """Makes the samples of a table again and encodes them and their mirror images.

    Args:
        policy: The policy whose encoder is used.
        table: The table.
        source: The source from which the table's samples were drawn.

    Returns:
        Features, float32 (2, N, F); those of the mirror images are second.

    Raises:
        SampleError: If the source has other images than the table.
    """
    features: list[Tensor] = []
    for start in range(0, len(table.specs), _ENCODE_CHUNK):
        samples = [source.make(spec) for spec in table.specs[start : start + _ENCODE_CHUNK]]
        images = observe_batch(samples, policy.max_tools, policy.position.device)
        features.append(torch.stack([policy.encode(images), policy.encode(images.flip(-1))]))
    return torch.cat(features, dim=1).clone()


def split_photographs(table: RewardTable, fraction: float, seed: int) -> list[int]:
    """Returns the rows of some photographs, about a fraction of all: their samples belong together."""
    photographs = list(dict.fromkeys(spec.source_image for spec in table.specs))
    count = max(1, round(fraction * len(photographs)))
    order = np.random.default_rng(seed).permutation(len(photographs))
    held_out = {photographs[index] for index in order[:count]}
    return [row for row, spec in enumerate(table.specs) if spec.source_image in held_out]


@torch.no_grad()
def choose_plans(
    value: PlanValue,
    features: Tensor,
    samples: Sequence[Sample],
    toolbox: Toolbox,
    rng: Generator,
    *,
    count: int,
    max_tools: int,
    tool_cost: float = 0.0,
    labels: Sequence[str] = DEGRADATIONS,
) -> Tensor:
    """Chooses for each sample the candidate plan with the highest predicted reward less its cost.

    Args:
        value: The value network.
        features: Features of the images, (B, F).
        samples: The samples; their degradations decide which candidates are drawn, not which is chosen.
        toolbox: The tools.
        rng: Draws the candidates.
        count: Number of candidates for each sample.
        max_tools: Maximum number of tools in a plan.
        tool_cost: Subtracted from the predicted reward for each tool.
        labels: All degradations, in the order in which recipes apply them.

    Returns:
        The chosen plans as actions, int64 (B, max_tools).
    """
    codec = PlanCodec(toolbox.names, max_tools)
    plans = np.zeros((len(samples), count, max_tools), np.int64)
    for row, sample in enumerate(samples):
        degradations = sample.degradations or frozenset()
        candidates = candidate_plans(toolbox, degradations, rng, count, max_tools, labels)
        plans[row, : len(candidates)] = [codec.encode(plan) for plan in candidates]
    tokens = torch.from_numpy(plans).to(features.device)
    lengths = (tokens != STOP).sum(2)
    chosen = (value(features, tokens) - tool_cost * lengths).argmax(1)
    return tokens[torch.arange(len(tokens)), chosen]


def plan_imitation_loss(policy: PlanPolicy, features: Tensor, plans: Tensor) -> Tensor:
    """Returns the mean cross-entropy of the tokens of plans, up to and including the first STOP.

    Args:
        policy: The policy.
        features: Features of the images, (B, F).
        plans: The plans to imitate as actions, int64 (B, max_tools).
    """
    logits = policy.tool_logits(features, plans[:, :-1])
    token_losses = F.cross_entropy(logits.flatten(0, 1), plans.flatten(), reduction="none")
    mask = completion_mask(plans)
    return (token_losses.view_as(mask) * mask).sum() / mask.sum()


def load_or_run_imitation(
    policy: PlanPolicy, toolbox: Toolbox, source: Source, table: RewardTable, config: PlannerConfig
) -> None:
    """Gives the policy the weights of the imitation, which runs unless the folder has its result."""
    path = config.out / IMITATION_FILE
    if not path.is_file():
        if not (config.out / VALUE_FILE).is_file():
            save_weights(fit_value(policy, toolbox, source, table, config), config.out / VALUE_FILE)
        value = load_value(config.out, policy.detector.encoder.features_dim, len(toolbox))
        value.to(policy.position.device)
        run_imitation(policy, value, toolbox, source, config)
        save_weights(policy, path)
    load_weights(policy, path)  # rounded to float16, as other runs that start from the file


def fit_value(
    policy: PlanPolicy, toolbox: Toolbox, source: Source, table: RewardTable, config: PlannerConfig
) -> PlanValue:
    """Trains the value network on the table; prints how good its choices are on held-out photographs."""
    features = encode_table(policy, table, source)
    plans = torch.from_numpy(table.plans.astype(np.int64)).to(features.device)
    r_q = torch.from_numpy(table.r_q).to(features.device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        value = PlanValue(features.shape[-1], len(toolbox)).to(features.device)
        scores = train_value(
            value,
            features,
            plans,
            r_q,
            held_out=split_photographs(table, HELD_OUT_FRACTION, config.seed),
            epochs=config.value_epochs,
            batch_size=config.imitation_batch_size,
            lr=config.imitation_lr,
            seed=config.seed,
        )
    print(
        f"value network, R_q on held-out photographs: untouched {scores.untouched:.3f}, chosen "
        f"{scores.chosen:.3f}, best candidate {scores.best:.3f}",
        flush=True,
    )
    return value.eval()


def load_value(folder: Path, features_dim: int, num_tools: int) -> PlanValue:
    """Loads the value network of a run, in evaluation mode.

    Args:
        folder: Folder of the run.
        features_dim: Length of the features of an image.
        num_tools: Number of tools.

    Raises:
        MissingWeightsError: If the run has not trained one.
        AgentError: If the file holds the weights of another network.
    """
    with torch.random.fork_rng(devices=[]):
        value = PlanValue(features_dim, num_tools)
    load_weights(value, folder / VALUE_FILE)
    return value.eval()


def run_imitation(
    policy: PlanPolicy, value: PlanValue, toolbox: Toolbox, source: Source, config: PlannerConfig
) -> None:
    """Trains the decoder on the choices of the value network; resumes from its own checkpoint."""
    decoder = [weight for name, weight in policy.named_parameters() if not name.startswith("detector.")]
    optimizer = torch.optim.AdamW(decoder, config.imitation_lr, betas=(0.9, 0.99), weight_decay=0.01)
    checkpoint, start_step = config.out / "imitation.pt", 0
    if (state := load_checkpoint(checkpoint, config.device)) is not None:
        policy.load_state_dict(state["policy"])
        optimizer.load_state_dict(state["optimizer"])
        start_step = state["step"]
        print(f"resuming the imitation after {start_step} of {config.imitation_steps} steps")
    writer = SummaryWriter(str(config.out / "imitation"), purge_step=start_step + 1)
    seed, stage = config.seed, SeedStage.PLANNER_IMITATION
    steps = range(start_step, config.imitation_steps)
    batches = prefetch(
        lambda step: draw_samples(source, config.imitation_batch_size, make_rng(seed, stage, step)), steps
    )
    for step, samples in zip(track(steps, "imitation", disable=not steps), batches, strict=True):
        with torch.no_grad():
            features = policy.encode(observe_batch(samples, config.max_tools, policy.position.device))
        plans = choose_plans(
            value,
            features,
            samples,
            toolbox,
            make_rng(seed, stage, step, stream=1),
            count=config.imitation_candidates,
            max_tools=config.max_tools,
            tool_cost=config.tool_cost,
            labels=source.degradations,
        )
        factor = warmup_cosine(step, config.imitation_steps, warmup=50)
        set_learning_rate(optimizer, config.imitation_lr * factor)
        loss = plan_imitation_loss(policy, features, plans)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(decoder, 1.0)
        optimizer.step()

        global_step = step + 1
        writer.add_scalar("imitation/loss", loss.item(), global_step)
        writer.add_scalar("imitation/plan_length", (plans != STOP).sum(1).float().mean(), global_step)
        if global_step % CHECKPOINT_INTERVAL == 0 or global_step == config.imitation_steps:
            print(f"imitation {global_step}/{config.imitation_steps}: loss {loss.item():.3f}", flush=True)
            state = {"policy": policy.state_dict(), "optimizer": optimizer.state_dict()}
            save_checkpoint(checkpoint, state | {"step": global_step})
    writer.close()
