"""What the scoring server does, without HTTP: scores plans and answers, and plays sessions."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np

from opera_env.answer import AnswerGrammar
from opera_env.data import Source
from opera_env.envs.observation import Episode, observe, steps_left, take_turn
from opera_env.json_files import JsonObject
from opera_env.reward import combined_reward, env_reward, f1_score
from opera_env.scoring import PlanScorer
from opera_env.serving.config import ServingConfig
from opera_env.serving.gather import Call, Gatherer, MakeSample
from opera_env.serving.messages import (
    ScoreItem,
    encode_image,
    parse_items,
    parse_plan,
    parse_sample,
    parse_turn,
)
from opera_env.serving.sessions import Session, Sessions
from opera_env.types import Outcome, Plan, Sample, SampleSpec

PROTOCOL = 1
"""Version of what client and server exchange."""

_SAMPLES_KEPT = 256

IsAbandoned = Callable[[], Awaitable[bool]]
"""Whether the client of a request has gone."""


class ScoringService:
    """Scores plans and answers, and plays sessions, for any number of callers at once.

    Args:
        scorer: Runs the plans and scores the results.
        source: Makes the samples of specifications.
        config: The limits.
        on_batch: Called with the number of plans and the seconds of each batch that was scored.

    Attributes:
        gatherer: Scores calls in batches.
        sessions: The open sessions.
        grammar: The tools, and the labels that answers may name.
    """

    def __init__(
        self,
        scorer: PlanScorer,
        source: Source,
        config: ServingConfig,
        on_batch: Callable[[int, float], None] = lambda plans, seconds: None,
    ) -> None:
        self.scorer, self.source, self.config = scorer, source, config
        self.grammar = AnswerGrammar(scorer.tool_names, source.degradations, config.max_tools)
        self.gatherer = Gatherer(
            scorer, config.gather_ms / 1000, config.max_batch, config.max_queue, on_batch
        )
        self.sessions = Sessions(config.max_sessions, config.session_seconds)
        self._samples: OrderedDict[SampleSpec, Sample] = OrderedDict()

    def describe(self) -> dict[str, Any]:
        """Returns what clients have to know: tools, labels, reward and limits, in JSON types."""
        toolbox = self.scorer.toolbox
        return {
            "protocol": PROTOCOL,
            "tools": {tool.name: sorted(tool.degradations) for tool in toolbox},
            "signature": toolbox.signature,
            "fingerprint": toolbox.fingerprint,
            "source": self.source.name,
            "degradations": list(self.grammar.degradations),
            "reward": self.scorer.reward.name,
            **asdict(self.config),
        }

    async def score(self, request: JsonObject, is_abandoned: IsAbandoned) -> dict[str, Any]:
        """Scores the plans and answers of a request; an answer that cannot be parsed scores 0.

        Raises:
            OperaError: If the request is malformed, a sample cannot be made or a tool fails.
        """
        items = parse_items(request, self.grammar, self.config.max_plans, self.config.max_pixels)
        restored = request.flag("restored", default=False)
        call = Call(
            [partial(self._make, item.sample) for item in items],
            [item.decision.plan for item in items],
            restored,
            is_abandoned,
        )
        scored = await self.gatherer.score(call)
        return {
            "results": [
                self._score_json(item, sample, outcome, restored)
                for item, (sample, outcome) in zip(items, scored, strict=True)
            ]
        }

    def _make(self, sample: Sample | SampleSpec | int) -> Sample:
        """Makes a sample of a specification or a seed; the last ones are kept. Runs in the scorer's thread.

        Images that are known by their content may be in a folder of another name here.
        """
        if isinstance(sample, Sample):
            return sample
        if isinstance(sample, int):
            sample = self.source.draw(np.random.default_rng(sample))
        elif sample.sha256:
            sample = replace(sample, source=self.source.name)
        if sample not in self._samples:
            self._samples[sample] = self.source.make(sample)
            if len(self._samples) > _SAMPLES_KEPT:
                self._samples.popitem(last=False)
        self._samples.move_to_end(sample)
        return self._samples[sample]

    def _score_json(
        self, item: ScoreItem, sample: Sample, outcome: Outcome, restored: bool
    ) -> dict[str, Any]:
        cost, decision, labels = self.config.tool_cost, item.decision, sample.degradations
        result = _outcome_json(outcome, cost) | {"degradations": _sorted(labels)}
        if restored and outcome.restored is not None:
            result["restored"] = encode_image(outcome.restored)
        if item.is_answer:
            is_parsed = decision.error is None
            r_d = 1.0 if labels is None else f1_score(decision.degradations or frozenset(), labels)
            result |= {
                "plan": list(decision.plan),
                "error": None if is_parsed else str(decision.error),
                "r_f": float(is_parsed),
                "r_d": r_d if is_parsed else 0.0,
                "total": combined_reward(outcome, decision, labels, tool_cost=cost),
            }
            if not is_parsed:
                result |= {"r_q": 0.0, "reward": 0.0, "metrics": {}, "terms": {}}
        return result

    async def open_session(self, request: JsonObject, is_abandoned: IsAbandoned) -> dict[str, Any]:
        """Opens a session on a sample, with the tools that ``plan`` names applied already.

        In place of a sample, ``seed`` lets the server draw one.

        Raises:
            OperaError: If the request is malformed, too many sessions are open, a sample cannot be made or
                a tool fails.
        """
        self.sessions.check_room()
        made = partial(self._make, parse_sample(request, self.config.max_pixels))
        plan = parse_plan(request, self.grammar)
        undone = request.integer("undone", 0, self.config.max_tools, default=0)
        turns = request.integer("turns", 0, 2 * self.config.max_tools, default=0)
        sample, outcome = await self._score_one(made, plan, is_abandoned)
        episode = Episode(sample, plan, outcome, undone=undone, turns=turns)
        session = self.sessions.open(episode)
        return {"session": session.name, **self._observe(session)}

    async def step(self, request: JsonObject, is_abandoned: IsAbandoned) -> dict[str, Any]:
        """Takes one turn of a session: takes back tools, applies tools, ends the episode.

        ``reward_change`` is the increase of R_q less the costs of the tools in the plan. A request that
        says the number of its ``turn`` may be repeated: a turn that was taken is answered as before. If it
        names ``degradations``, ``r_d`` is their F1 score, and ``total`` is R_q R_d, less the tool cost.

        Raises:
            OperaError: If the request is malformed, there is no such session, or a tool fails; the session
                is then what it was before.
        """
        decision = parse_turn(request, self.grammar)
        session = self.sessions.take(request.text("session"))
        before = session.episode
        try:
            turn = request.integer("turn", 0, 2 * self.config.max_tools, default=before.turns)
            if turn == before.turns - 1 and session.answer is not None:
                return session.answer
            if turn != before.turns:
                request.fail(f"expected the turn {before.turns} of this session, found {turn}")
            assert before.outcome is not None
            episode = Episode(
                before.sample, before.plan, before.outcome, undone=before.undone, turns=before.turns
            )
            take_turn(episode, decision, self.config.max_tools)
            if episode.plan != before.plan:
                made = partial(self._make, before.sample)
                _, episode.outcome = await self._score_one(made, episode.plan, is_abandoned)
            assert episode.outcome is not None
            cost = self.config.tool_cost
            change = env_reward(episode.outcome, cost) - env_reward(before.outcome, cost)
            session.episode = episode
            session.answer = self._observe(session) | {"reward_change": change}
            if decision.degradations is not None:
                labels = episode.sample.degradations
                session.answer |= {
                    "r_d": 1.0 if labels is None else f1_score(decision.degradations, labels),
                    "total": combined_reward(episode.outcome, decision, labels, tool_cost=cost),
                }
            return session.answer
        finally:
            self.sessions.give_back(session)

    async def _score_one(
        self, make: MakeSample, plan: Plan, is_abandoned: IsAbandoned
    ) -> tuple[Sample, Outcome]:
        call = Call([make], [plan], True, is_abandoned)
        (scored,) = await self.gatherer.score(call)
        return scored

    def _observe(self, session: Session) -> dict[str, Any]:
        episode, max_tools = session.episode, self.config.max_tools
        assert episode.outcome is not None
        return {
            "image": encode_image(observe(episode, max_tools).image),
            "plan": list(episode.plan),
            "undone": episode.undone,
            "turns": episode.turns,
            "steps_left": steps_left(episode, max_tools),
            "done": episode.done,
            **_outcome_json(episode.outcome, self.config.tool_cost),
        }


def _outcome_json(outcome: Outcome, tool_cost: float) -> dict[str, Any]:
    return {
        "r_q": outcome.r_q,
        "reward": env_reward(outcome, tool_cost),
        "metrics": _floats(outcome.metrics),
        "terms": _floats(outcome.terms),
        "num_tools": outcome.num_tools,
    }


def _floats(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}


def _sorted(labels: frozenset[str] | None) -> list[str] | None:
    return None if labels is None else sorted(labels)
