"""What a model is rewarded for during GRPO: whole plans in words, or episodes of calls of functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from opera_agents.vlm.callbacks import logging_total_reward
from opera_agents.vlm.config import EnvArguments
from opera_agents.vlm.endpoint import Endpoint
from opera_agents.vlm.environment import FACTOR_NAMES, RestorationEnvironment, RestorationWorld
from opera_agents.vlm.judge import EndpointJudge, Judge, LocalJudge, RulesJudge
from opera_agents.vlm.prompt import make_grammar
from opera_agents.vlm.reward import REWARD_NAMES, AnswerScorer
from opera_env.answer import TurnGrammar
from opera_env.data import Source
from opera_env.execution import PrefixCache
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox


@dataclass(frozen=True)
class Objective:
    """The parts of TRL's trainer that the reward consists of.

    Attributes:
        reward_functions: Functions that score completions, all of which are logged.
        reward_weights: Weight of each function in the reward that is trained on.
        environment_factory: Makes environments for episodes, whose own reward is added; None for answers
            without calls.
    """

    reward_functions: list[Callable[..., list[float]]]
    reward_weights: list[float]
    environment_factory: Callable[[], RestorationEnvironment] | None = None


def make_objective(env_args: EnvArguments, toolbox: Toolbox, source: Source, group_size: int) -> Objective:
    """Returns what the settings ask for.

    Args:
        env_args: The settings.
        toolbox: The tools.
        source: Makes the training photographs.
        group_size: Number of completions about the same photograph.
    """
    form, labels = cast(Any, env_args.reward_form), source.degradations
    if env_args.turns:
        scorer = PlanScorer(toolbox, env_args.reward, cache=PrefixCache())
        turns = TurnGrammar(toolbox.names, tuple(labels), env_args.max_tools)
        world = RestorationWorld(source.make, scorer, turns, env_args.tool_cost, form)
        return Objective(world.factor_functions(), [0.0] * len(FACTOR_NAMES), world.make_environment)
    answer_scorer = AnswerScorer(
        source.make,
        PlanScorer(toolbox, env_args.reward),
        make_grammar(toolbox, env_args.max_tools, labels),
        make_judge(env_args, toolbox),
        form,
        env_args.tool_cost,
    )
    *factors, _ = answer_scorer.reward_functions()
    total = logging_total_reward(answer_scorer, group_size)
    return Objective([*factors, total], [0.0] * (len(REWARD_NAMES) - 1) + [1.0])


def make_judge(env_args: EnvArguments, toolbox: Toolbox) -> Judge | None:
    """Returns the judge of R_c; None if R_c is left out."""
    if env_args.judge == "none":
        return None
    if env_args.judge == "rules":
        return RulesJudge(toolbox)
    if env_args.judge.startswith(("http://", "https://")):
        return EndpointJudge(Endpoint(env_args.judge, env_args.judge_model))
    return LocalJudge(env_args.judge, toolbox.device)
