"""What a comparison of agents is given and returns: settings, records, costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from opera_env.reward import Reward
from opera_env.settings import NonNegativeFloat, NonNegativeInt, PositiveInt, check_settings
from opera_env.types import Plan, SampleSpec


@dataclass(frozen=True)
class EvaluationConfig:
    """Settings of a comparison of agents.

    Attributes:
        reward: A preset of :data:`opera_env.reward.REWARD_PRESETS`, or a reward of your own: a Reward, or
            its name as "module:attribute".
        max_tools: Maximum number of tools in a plan.
        tool_cost: Cost of each tool, in units of R_q, in searches, rewards and regret alike.
        num_plans: Number of plans that an agent samples for each image, if it can sample several.
        budget: Maximum number of tools that an agent may run for one image before it decides, see
            :mod:`opera_env.budget`; None for no limit.
        seed: Seed of random agents and of the bootstrap.
        frozen_max_length: Regret is measured to the best plan of a frozen set. The set has all plans up
            to this length and the plans that a beam search scores.
        frozen_beam_width: Width of that beam search.
        regret: Whether the frozen set is scored and regret is reported. It takes most of the time.

    Raises:
        SettingError: If a number is out of its range.
    """

    reward: str | Reward = "lite"
    max_tools: PositiveInt = 6
    tool_cost: NonNegativeFloat = 0.0
    num_plans: PositiveInt = 1
    budget: PositiveInt | None = None
    seed: NonNegativeInt = 0
    frozen_max_length: NonNegativeInt = 2
    frozen_beam_width: PositiveInt = 8
    regret: bool = True

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class Record:
    """The result of one agent on one sample.

    Attributes:
        agent: Name of the agent.
        spec: The specification of the sample.
        plan: The plan that the agent chose.
        reward: R_q less the cost of the tools; see :func:`opera_env.reward.env_reward`.
        r_q: Restoration quality of the result.
        metrics: Raw metric values by name.
        regret: Highest reward of the frozen set less this reward; None if it was not measured.
        error: Why the agent's answer could not be parsed; None if it could.
    """

    agent: str
    spec: SampleSpec
    plan: Plan
    reward: float
    r_q: float
    metrics: Mapping[str, float]
    regret: float | None = None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns a dictionary of JSON types; :meth:`from_json` is its inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Record:
        """Returns the record that :meth:`to_json` has written."""
        numbers = {name: float(data[name]) for name in ("reward", "r_q")}
        return cls(
            agent=str(data["agent"]),
            spec=SampleSpec.from_json(data["spec"]),
            plan=tuple(map(str, data["plan"])),
            **numbers,
            metrics={str(name): float(value) for name, value in data["metrics"].items()},
            regret=None if data["regret"] is None else float(data["regret"]),
            error=data["error"],
        )


@dataclass(frozen=True)
class Cost:
    """The cost of an agent's decisions on all samples.

    Attributes:
        images_scored: Number of results that were scored for the agent before it decided.
        tools_run: Number of tool applications before the agent decided.
        seconds: Duration of the agent's decisions.
    """

    images_scored: int
    tools_run: int
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """The records of a comparison and the costs of the agents.

    Attributes:
        records: One per agent and sample.
        costs: One per agent, by name.
        frozen_set_size: Mean number of plans per sample in the frozen set; None without regret.
        config: How the agents were compared.
        toolbox: Signature and fingerprint of the tools.
    """

    records: list[Record]
    costs: dict[str, Cost]
    frozen_set_size: float | None
    config: EvaluationConfig
    toolbox: Mapping[str, str] = field(default_factory=dict)
