"""Restoration as an environment of TRL: a language model calls tools and sees their results.

Example:
    world = RestorationWorld(source.make, PlanScorer(toolbox, "lite", cache=PrefixCache()), grammar)
    GRPOTrainer(
        model=model,
        args=GRPOConfig(reward_weights=[0.0] * len(FACTOR_NAMES), ...),
        train_dataset=make_dataset(source, system_prompt, num_samples, seed),
        processing_class=processor,
        reward_funcs=world.factor_functions(),
        environment_factory=world.make_environment,
    )

The trainer adds up the factors, with weight 0, and the reward of the environment, with weight 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from transformers.utils.chat_template_utils import get_json_schema

from opera_agents.vlm.conversation import ENDED, Part, left_part, text_part
from opera_agents.vlm.reward import SampleFactory
from opera_env.answer import TurnGrammar
from opera_env.data.images import to_pil
from opera_env.envs.observation import Episode, observe, steps_left, take_turn
from opera_env.errors import AgentError, OperaError
from opera_env.reward import combined_reward, env_reward, f1_score
from opera_env.scoring import PlanScorer
from opera_env.types import Decision, Outcome, SampleSpec

FACTOR_NAMES = ("r_q", "r_d", "r_f", "tools_run", "undone")
"""What is logged of each episode beside its reward."""

_FUNCTIONS = ("apply_tool", "finish", "undo")
"""The functions that the model may call, in the order in which TRL lists them."""


@dataclass(frozen=True)
class EpisodeScore:
    """The score of an episode.

    Attributes:
        r_q: R_q of the final image, less the tool cost.
        r_d: F1 score of the degradations that were named at the end; 0 if none were.
        r_f: 1 if every call was understood and the episode was finished, else 0.
        total: R = R_q R_d R_f.
    """

    r_q: float
    r_d: float
    r_f: float
    total: float


class RestorationWorld:
    """What the environments of a trainer share: the photographs, the tools and their scores.

    R_c has no place here: an environment sees calls, and not the words beside them.

    Args:
        make_sample: Makes the sample of a specification; ``source.make`` is one.
        scorer: Runs plans and scores results; with a cache, a turn runs its own tools only.
        grammar: Names of tools and labels, and how many tools may run.
        tool_cost: Cost of each tool, subtracted from R_q.
        reward_form: "product" is the paper's R_q R_d R_f, "gated" that of its published code.
    """

    def __init__(
        self,
        make_sample: SampleFactory,
        scorer: PlanScorer,
        grammar: TurnGrammar,
        tool_cost: float = 0.0,
        reward_form: Literal["product", "gated"] = "product",
    ) -> None:
        self.make_sample, self.scorer, self.grammar = make_sample, scorer, grammar
        self.tool_cost = tool_cost
        self.reward_form: Literal["product", "gated"] = reward_form

    def make_environment(self) -> RestorationEnvironment:
        """Returns a new environment; it is TRL's ``environment_factory``."""
        return RestorationEnvironment(self)

    def score(
        self,
        environments: Sequence[RestorationEnvironment],
        completions: Sequence[Sequence[Mapping[str, Any]]] = (),
    ) -> list[EpisodeScore]:
        """Scores the episodes of environments together; those that were scored before are not run again.

        Args:
            environments: The environments.
            completions: The messages of their episodes, from which calls are counted that did not reach
                them, because they name no function or other arguments.

        Raises:
            OperaError: If a tool has failed during an episode, or fails now.
        """
        for environment in environments:
            environment._raise_failure()
        for environment, messages in zip(environments, completions, strict=False):
            if environment._score is None:
                environment._mistakes += _count_lost_calls(messages)
        new = [environment for environment in environments if environment._score is None]
        episodes = [environment._episode for environment in new]
        outcomes = self.scorer.score(
            [episode.sample for episode in episodes],
            [episode.plan for episode in episodes],
            restored=False,
        )
        for environment, outcome in zip(new, outcomes, strict=True):
            environment._score = self._score_episode(environment, outcome)
        return [environment._score for environment in environments if environment._score is not None]

    def _score_episode(self, environment: RestorationEnvironment, outcome: Outcome) -> EpisodeScore:
        episode, decision = environment._episode, environment._final
        labels = episode.sample.degradations
        r_f = float(decision is not None and not environment._mistakes)
        predicted = frozenset() if decision is None else decision.degradations or frozenset()
        r_d = 1.0 if labels is None else f1_score(predicted, labels)
        total = 0.0
        if decision is not None and r_f:
            named = Decision(episode.plan, predicted)
            total = combined_reward(outcome, named, labels, None, self.reward_form, self.tool_cost)
        return EpisodeScore(env_reward(outcome, self.tool_cost), r_d if decision else 0.0, r_f, total)

    def factor_functions(self) -> list[Callable[..., list[float]]]:
        """Returns reward functions for TRL, named as in :data:`FACTOR_NAMES`, for the curves."""
        return [self._factor_function(name) for name in FACTOR_NAMES]

    def _factor_function(self, name: str) -> Callable[..., list[float]]:
        def factor(
            environments: Sequence[RestorationEnvironment],
            completions: Sequence[Sequence[Mapping[str, Any]]] = (),
            **kwargs: Any,
        ) -> list[float]:
            scores = self.score(environments, completions)
            if name == "tools_run":
                return [float(len(each._episode.plan) + each._episode.undone) for each in environments]
            if name == "undone":
                return [float(each._episode.undone) for each in environments]
            return [getattr(score, name) for score in scores]

        factor.__name__ = name
        return factor


class RestorationEnvironment:
    """One episode of restoration, played by calls of functions; TRL resets it for the next one.

    TRL offers every public method but ``reset`` and ``get_reward`` to the model. A call that cannot be
    understood is answered with what was expected, and R_f is then 0. A tool that fails stops the training:
    a reward of 0 could not be distinguished from that of a bad plan.

    Args:
        world: The photographs, the tools and their scores.
    """

    def __init__(self, world: RestorationWorld) -> None:
        self._world = world
        self._episode: Episode
        self._score: EpisodeScore | None = None
        self._final: Decision | None = None
        self._mistakes = 0
        self._failure: OperaError | None = None

    def reset(self, **row: Any) -> None:
        """Begins an episode on the sample that a row specifies; the row's picture is in its prompt."""
        self._episode = Episode(self._world.make_sample(SampleSpec.from_json(row["spec"])))
        self._score, self._final, self._failure, self._mistakes = None, None, None, 0

    def apply_tool(self, name: str) -> list[dict[str, Any]]:
        """Applies a restoration tool to the photograph and shows the result.

        Args:
            name: Name of the tool.

        Returns:
            The photograph as it is now, and how many tools may still run.
        """
        tools = self._world.grammar.tools
        if name not in tools:
            return self._mistake(f"expected one of {', '.join(tools)}, found {str(name)[:40]!r}.")
        return self._take(Decision((name,)))

    def undo(self) -> list[dict[str, Any]]:
        """Takes back the tool that was applied last and shows the photograph without it.

        Returns:
            The photograph as it is now, and how many tools may still run.
        """
        if not self._episode.plan:
            return self._mistake("no tool was applied that could be taken back.")
        return self._take(Decision((), undo=1))

    def finish(self, degradations: list[str]) -> list[dict[str, Any]]:
        """Ends the restoration. The photograph stays as it is now.

        Args:
            degradations: What was wrong with the photograph.

        Returns:
            Whether the restoration has ended.
        """
        known = self._world.grammar.degradations
        if not isinstance(degradations, list) or any(name not in known for name in degradations):
            return self._mistake(f"expected names among {', '.join(known)}, found {degradations!r:.80}.")
        if self._final is not None:
            return self._mistake("the restoration has ended already.")
        self._final = Decision(self._episode.plan, frozenset(degradations))
        self._episode.done = True
        return [text_part(ENDED)]

    def get_reward(self) -> float:
        """Returns R = R_q R_d R_f of the episode.

        Raises:
            OperaError: If a tool has failed.
        """
        (score,) = self._world.score([self])
        return score.total

    def _take(self, decision: Decision) -> list[Part]:
        """Takes a turn and shows the result; no scores are computed before the end."""
        episode, grammar = self._episode, self._world.grammar
        if episode.done:
            return self._mistake("no more tools may run, and none can be taken back: call finish.")
        plan = episode.plan
        take_turn(episode, decision, grammar.max_tools)
        try:
            (episode.outcome,) = self._world.scorer.restore([episode.sample], [episode.plan])
        except OperaError as error:
            episode.plan, self._failure = plan, error
            raise
        image = to_pil(observe(episode, grammar.max_tools).image)
        return [{"type": "image", "image": image}, left_part(steps_left(episode, grammar.max_tools))]

    def _mistake(self, expected: str) -> list[Part]:
        self._mistakes += 1
        return [text_part(f"That cannot be done: {expected}")]

    def _raise_failure(self) -> None:
        """Raises the error of a tool, which TRL has turned into a message to the model."""
        if self._failure is not None:
            raise AgentError(f"a tool failed while a model was trained: {self._failure}") from self._failure


def _count_lost_calls(messages: Sequence[Mapping[str, Any]]) -> int:
    """Counts the calls that TRL answered with an error in text, in place of the parts of an environment."""
    return sum(message["role"] == "tool" and isinstance(message["content"], str) for message in messages)


def function_schemas() -> list[dict[str, Any]]:
    """Returns the functions of an environment as JSON schemas, as TRL shows them to a model."""
    environment = RestorationEnvironment.__new__(RestorationEnvironment)
    return [get_json_schema(getattr(environment, name)) for name in _FUNCTIONS]
