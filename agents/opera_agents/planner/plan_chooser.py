"""The plans that a planner's run chose by its value network, for other agents that imitate them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from numpy.random import Generator

from opera_agents.common.batches import observe_batch
from opera_agents.planner.imitation import IMITATION_FILE, VALUE_FILE, choose_plans, load_value
from opera_agents.planner.plan_value import PlanValue
from opera_agents.planner.policy import PlanPolicy
from opera_agents.planner.saved import load_policy, load_weights
from opera_env.errors import MissingWeightsError
from opera_env.plan import PlanCodec
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample

NUM_CANDIDATES = 100
"""Number of plans among which the value network chooses for each sample."""


@dataclass(frozen=True)
class PlanChooser:
    """Chooses a plan for each sample: the candidate with the highest predicted reward less its cost.

    Attributes:
        policy: The policy whose encoder the value network was trained with.
        value: The value network.
        toolbox: The tools.
        labels: All degradations, in the order in which recipes apply them.
        max_tools: Maximum number of tools in a plan.
        tool_cost: Subtracted from the predicted reward for each tool.
    """

    policy: PlanPolicy
    value: PlanValue
    toolbox: Toolbox
    labels: Sequence[str]
    max_tools: int
    tool_cost: float

    def __call__(self, samples: Sequence[Sample], rng: Generator) -> list[Plan]:
        """Chooses a plan for each sample.

        Args:
            samples: Samples of one canvas; their degradations decide which candidates are drawn.
            rng: Draws the candidates.
        """
        with torch.no_grad():
            images = observe_batch(samples, self.max_tools, self.policy.position.device)
            features = self.policy.encode(images)
        tokens = choose_plans(
            self.value,
            features,
            samples,
            self.toolbox,
            rng,
            count=NUM_CANDIDATES,
            max_tools=self.max_tools,
            tool_cost=self.tool_cost,
            labels=self.labels,
        )
        codec = PlanCodec(self.toolbox.names, self.max_tools)
        return [codec.decode(action) for action in tokens.tolist()]


def load_chooser(
    folder: Path, toolbox: Toolbox, labels: Sequence[str], max_tools: int, tool_cost: float
) -> PlanChooser:
    """Loads the value network of a planner's run, with the encoder that it was trained with.

    GRPO trains the encoder further, so that it is not that of ``planner.safetensors``.

    Args:
        folder: Folder of a finished run of ``opera_agents.planner.train`` with ``--table``.
        toolbox: The tools, for which the planner has to be trained; the networks get their device.
        labels: All degradations, in the order in which recipes apply them.
        max_tools: Maximum number of tools in a plan.
        tool_cost: Subtracted from the predicted reward for each tool.

    Raises:
        MissingWeightsError: If the folder is not that of a finished run with a table.
        AgentError: If a file holds the weights of another network.
        ToolboxMismatchError: If the planner was trained for other tools.
    """
    policy, card = load_policy(folder)
    card.check(toolbox)
    for name in (VALUE_FILE, IMITATION_FILE):
        if not (folder / name).is_file():
            remedy = "python -m opera_agents.planner.train --table ..."
            raise MissingWeightsError("the value network of a planner's run", folder / name, remedy)
    load_weights(policy, folder / IMITATION_FILE)
    value = load_value(folder, policy.detector.encoder.features_dim, len(toolbox))
    return PlanChooser(
        policy.to(toolbox.device), value.to(toolbox.device), toolbox, labels, max_tools, tool_cost
    )
