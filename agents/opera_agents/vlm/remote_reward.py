"""The reward of answers in words whose plans a scoring server runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from opera_agents.vlm.judge import Judge
from opera_agents.vlm.reward import AnswerScorer
from opera_env.answer import AnswerGrammar
from opera_env.serving.client import ScoringClient
from opera_env.types import Outcome, Plan, SampleSpec


class RemoteAnswerScorer(AnswerScorer):
    """Scores answers as :class:`AnswerScorer`, at a server that ``opera-env serve`` runs.

    Answers are parsed and judged here; photographs, tools and metrics are there. The tool cost is that of
    the server. It may be used from several threads, whose calls the server scores together.

    Args:
        client: The client of the server.
        judge: Computes R_c; None leaves it out.
        reward_form: "product" is the paper's R_q R_d R_f R_c, "gated" that of its published code.
    """

    def __init__(
        self,
        client: ScoringClient,
        judge: Judge | None = None,
        reward_form: Literal["product", "gated"] = "product",
    ) -> None:
        grammar = AnswerGrammar(client.tool_names, client.degradations, client.served["max_tools"])
        # What makes and scores samples is at the server; `_run` is all that would use it here.
        absent: Any = None
        super().__init__(absent, absent, grammar, judge, reward_form, client.served["tool_cost"])
        self.client = client

    def _run(
        self, specs: Sequence[SampleSpec], rows: Sequence[int], plans: Sequence[Plan]
    ) -> tuple[list[frozenset[str] | None], list[Outcome]]:
        plan_of = dict(zip(rows, plans, strict=True))
        # The server knows the labels of the samples, also of those whose answers were not parsed.
        scored = self.client.score(specs, [plan_of.get(row, ()) for row in range(len(specs))])
        return [each.degradations for each in scored], [scored[row].outcome for row in rows]
