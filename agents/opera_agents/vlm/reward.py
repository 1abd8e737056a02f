"""The reward of answers in words: R_q, R_d, R_f and R_c of each answer, and their combination."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from opera_agents.vlm.judge import Judge
from opera_env.answer import AnswerGrammar
from opera_env.reward import combined_reward, env_reward, f1_score
from opera_env.scoring import PlanScorer
from opera_env.types import Decision, Outcome, Plan, Sample, SampleSpec

SampleFactory = Callable[[SampleSpec], Sample]
"""Makes the sample that a specification describes; ``source.make`` is one."""

REWARD_NAMES = ("r_q", "r_d", "r_f", "r_c", "total")
"""Names of the reward functions, in their order."""


@dataclass(frozen=True)
class AnswerScore:
    """The rewards of one answer.

    Attributes:
        decision: The parsed answer.
        labels: The true degradations of the photograph; None if they are unknown.
        r_q: R_q of the plan's result, less the tool cost; 0 if the answer cannot be parsed.
        r_d: F1 score of the named degradations; 0 if the answer cannot be parsed.
        r_f: 1 if the answer can be parsed, else 0.
        r_c: 1 if the plan follows from the reasoning, else 0; 1 without a judge.
        total: The combined reward.
    """

    decision: Decision
    labels: frozenset[str] | None
    r_q: float
    r_d: float
    r_f: float
    r_c: float
    total: float


class AnswerScorer:
    """Scores answers about photographs in batches; plans that share a prefix share its work.

    Failures raise errors: a reward of 0 after a failure could not be distinguished from that of a bad
    answer.

    Args:
        make_sample: Makes the samples.
        scorer: Runs the plans and scores the results.
        grammar: Parses the answers.
        judge: Computes R_c; None leaves it out.
        reward_form: "product" is the paper's R_q R_d R_f R_c, "gated" that of its published code.
        tool_cost: Cost of each tool, subtracted from R_q.
    """

    def __init__(
        self,
        make_sample: SampleFactory,
        scorer: PlanScorer,
        grammar: AnswerGrammar,
        judge: Judge | None = None,
        reward_form: Literal["product", "gated"] = "product",
        tool_cost: float = 0.0,
    ) -> None:
        self.make_sample, self.scorer, self.grammar = make_sample, scorer, grammar
        self.judge, self.tool_cost = judge, tool_cost
        self.reward_form: Literal["product", "gated"] = reward_form
        self._last: tuple[tuple[tuple[str, ...], tuple[SampleSpec, ...]], list[AnswerScore]] | None = None

    def score(self, texts: Sequence[str], specs: Sequence[SampleSpec]) -> list[AnswerScore]:
        """Returns the score of each answer; the scores of the last batch are cached.

        Args:
            texts: The answers.
            specs: Specifications of the samples that the answers are about.

        Raises:
            ToolFailedError: If a tool fails.
            EndpointError: If the judge's server cannot be reached.
        """
        key = tuple(texts), tuple(specs)
        last = self._last
        if last is None or last[0] != key:
            last = self._last = key, self._score_batch(texts, specs)
        return last[1]

    def _score_batch(self, texts: Sequence[str], specs: Sequence[SampleSpec]) -> list[AnswerScore]:
        decisions = [self.grammar.parse(text) for text in texts]
        parsed_rows = [row for row, decision in enumerate(decisions) if decision.error is None]
        labels, scored = self._run(specs, parsed_rows, [decisions[row].plan for row in parsed_rows])
        outcomes = dict(zip(parsed_rows, scored, strict=True))
        r_c = [1.0] * len(texts) if self.judge is None else self.judge.judge(decisions)
        return [
            self._score_one(decisions[row], labels[row], outcomes.get(row), r_c[row])
            for row in range(len(texts))
        ]

    def _run(
        self, specs: Sequence[SampleSpec], rows: Sequence[int], plans: Sequence[Plan]
    ) -> tuple[list[frozenset[str] | None], list[Outcome]]:
        """Returns the labels of all samples, and the outcomes of plans for those of some rows."""
        samples_by_spec = {spec: self.make_sample(spec) for spec in dict.fromkeys(specs)}
        samples = [samples_by_spec[spec] for spec in specs]
        outcomes = self.scorer.score([samples[row] for row in rows], plans, restored=False)
        return [sample.degradations for sample in samples], outcomes

    def _score_one(
        self, decision: Decision, labels: frozenset[str] | None, outcome: Outcome | None, r_c: float
    ) -> AnswerScore:
        if outcome is None:
            return AnswerScore(decision, labels, 0.0, 0.0, 0.0, 0.0 if self.judge else 1.0, 0.0)
        reward = combined_reward(
            outcome, decision, labels, r_c if self.judge else None, self.reward_form, self.tool_cost
        )
        r_q = env_reward(outcome, self.tool_cost)
        r_d = 1.0 if labels is None else f1_score(decision.degradations or frozenset(), labels)
        return AnswerScore(decision, labels, r_q, r_d, 1.0, r_c, reward)

    def reward_functions(self) -> list[Callable[..., list[float]]]:
        """Returns reward functions for TRL, named as in :data:`REWARD_NAMES`, which share one scoring.

        TRL adds rewards up. With ``reward_weights=[0, 0, 0, 0, 1]`` it logs all of them and trains on the
        combined reward alone. The functions read the column ``spec``: a specification in JSON types.
        """
        return [self._reward_function(name) for name in REWARD_NAMES]

    def _reward_function(self, name: str) -> Callable[..., list[float]]:
        def reward(
            completions: Sequence[Any], spec: Sequence[Mapping[str, Any]], **kwargs: Any
        ) -> list[float]:
            texts = [completion_text(completion) for completion in completions]
            specs = [SampleSpec.from_json(data) for data in spec]
            return [getattr(answer_score, name) for answer_score in self.score(texts, specs)]

        reward.__name__ = name
        return reward


def completion_text(completion: Any) -> str:
    """Returns the text of a completion, which is a string or a list of messages.

    Example:
        >>> completion_text("Hm."), completion_text([{"role": "assistant", "content": "Hm."}])
        ('Hm.', 'Hm.')
    """
    if isinstance(completion, str):
        return completion
    content = completion[-1]["content"]
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part["type"] == "text")
