"""What answers earn: R_q, R_d, R_f and R_c of each, and the reward they make together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from opera_agents.vlm.judge import Judge
from opera_env.answer import AnswerGrammar
from opera_env.reward import combined_reward, env_reward, f1_score
from opera_env.scoring import PlanScorer
from opera_env.types import Decision, Outcome, Sample, SampleSpec

Make = Callable[[SampleSpec], Sample]
"""Makes the sample that a specification describes, such as ``source.make``."""


@dataclass(frozen=True)
class AnswerScore:
    """What one answer earns.

    Attributes:
        decision: What it says.
        labels: What is wrong with the photograph; None if nobody knows.
        r_q: Quality of what its plan leads to, less the cost of its tools; 0 if it cannot be read.
        r_d: F1 of the degradations it names; 0 if it cannot be read.
        r_f: Whether it can be read.
        r_c: Whether the plan follows from the reasoning; 1 if nobody judges.
        total: The reward.
    """

    decision: Decision
    labels: frozenset[str] | None
    r_q: float
    r_d: float
    r_f: float
    r_c: float
    total: float


PARTS = ("r_q", "r_d", "r_f", "r_c", "total")


class AnswerScorer:
    """Judges answers about photographs in one go: all plans of a batch run with shared beginnings.

    Whatever fails, fails loudly: a reward that is 0 because something broke looks like one that is 0
    because the answer was bad.

    Args:
        make: Makes the photographs.
        scorer: Runs the plans and judges the results.
        grammar: Reads the answers.
        judge: Says R_c; None leaves it out.
        form: "product" is the paper's R_q R_d R_f R_c, "gated" the release's.
        tool_cost: Taken from R_q per tool.
    """

    def __init__(
        self,
        make: Make,
        scorer: PlanScorer,
        grammar: AnswerGrammar,
        judge: Judge | None = None,
        form: Literal["product", "gated"] = "product",
        tool_cost: float = 0.0,
    ) -> None:
        self.make, self.scorer, self.grammar = make, scorer, grammar
        self.judge, self.tool_cost = judge, tool_cost
        self.form: Literal["product", "gated"] = form
        self._last: tuple[tuple[tuple[str, ...], tuple[SampleSpec, ...]], list[AnswerScore]] | None = None

    def earned(self, texts: Sequence[str], specs: Sequence[SampleSpec]) -> list[AnswerScore]:
        """Returns what each answer earns; the last batch is remembered.

        Args:
            texts: Answers.
            specs: Of the photographs they are about.

        Raises:
            ToolFailedError: If a tool fails.
            EndpointError: If a judge stays away.
        """
        key = tuple(texts), tuple(specs)
        if self._last is None or self._last[0] != key:
            self._last = key, self._judge(texts, specs)
        return self._last[1]

    def _judge(self, texts: Sequence[str], specs: Sequence[SampleSpec]) -> list[AnswerScore]:
        made = {spec: self.make(spec) for spec in dict.fromkeys(specs)}
        samples = [made[spec] for spec in specs]
        decisions = [self.grammar.parse(text) for text in texts]
        readable = [row for row, decision in enumerate(decisions) if decision.error is None]
        scored = self.scorer.score(
            [samples[row] for row in readable], [decisions[row].plan for row in readable], restored=False
        )
        outcomes = dict(zip(readable, scored, strict=True))
        consistent = [1.0] * len(texts) if self.judge is None else self.judge.judge(decisions)
        return [
            self._one(decisions[row], samples[row], outcomes.get(row), consistent[row])
            for row in range(len(texts))
        ]

    def _one(self, decision: Decision, sample: Sample, outcome: Outcome | None, r_c: float) -> AnswerScore:
        labels = sample.degradations
        if outcome is None:
            return AnswerScore(decision, labels, 0.0, 0.0, 0.0, 0.0 if self.judge else 1.0, 0.0)
        reward = combined_reward(
            outcome, decision, labels, r_c if self.judge else None, self.form, self.tool_cost
        )
        r_q = env_reward(outcome, self.tool_cost)
        r_d = 1.0 if labels is None else f1_score(decision.degradations or frozenset(), labels)
        return AnswerScore(decision, labels, r_q, r_d, 1.0, r_c, reward)

    def functions(self) -> list[Callable[..., list[float]]]:
        """Returns reward functions for TRL, one a part, named as in :data:`PARTS`.

        TRL adds rewards up; give it the weights ``[0, 0, 0, 0, 1]``, so that it shows all and learns from
        the last. They read the column ``spec``, a specification in JSON types. All share one scoring.
        """
        return [self._reward_function(part) for part in PARTS]

    def _reward_function(self, part: str) -> Callable[..., list[float]]:
        def reward(
            completions: Sequence[Any], spec: Sequence[Mapping[str, Any]], **others: Any
        ) -> list[float]:
            texts = [completion_text(completion) for completion in completions]
            specs = [SampleSpec.from_json(one) for one in spec]
            return [getattr(one, part) for one in self.earned(texts, specs)]

        reward.__name__ = part
        return reward


def completion_text(completion: Any) -> str:
    """Returns the text of a completion, which may be a conversation.

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
