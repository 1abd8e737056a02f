"""Episodes for verl in which a language model applies tools turn by turn, played at a scoring server.

Example:
    opera-env serve --images bsds500/train --port 8200
    python -m opera_agents.vlm.verl --images bsds500/train --out turns.parquet \
        --turns --server http://127.0.0.1:8200
    python -m verl.trainer.main_ppo algorithm.adv_estimator=grpo data.train_files=turns.parquet ... \
        actor_rollout_ref.rollout.agent.agent_loop_config_path=agents/opera_agents/vlm/presets/verl-turns.yaml

verl makes an agent loop for each episode, which generates and keeps the tokens. The conversation is that of
:mod:`opera_agents.vlm.conversation`, and the reward is the total of the session, R_q R_d R_f.
"""

# pyright: reportMissingImports=false
# verl is no dependency: it is imported when it makes an agent loop, and this module can be without it.

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from uuid import uuid4

from opera_agents.vlm.conversation import Message, turn_messages
from opera_agents.vlm.environment import function_schemas
from opera_agents.vlm.functions import parse_call
from opera_agents.vlm.verl import RewardConfig
from opera_env.answer import TurnGrammar
from opera_env.errors import AgentError
from opera_env.serving.client import RemoteSession, ScoringClient
from opera_env.types import SampleSpec

_client = lru_cache(maxsize=4)(ScoringClient)
"""One client of each server in each process."""


class SessionEpisode:
    """An episode of a model that calls ``apply_tool``, ``undo`` and ``finish``, played in a session.

    A call that cannot be understood ends it, and R_f is then 0; so does a call other than ``finish`` when
    no more tools may run.

    Args:
        session: A session of the scoring server.
        grammar: Names of tools and labels of the server, and how many tools may run.
    """

    def __init__(self, session: RemoteSession, grammar: TurnGrammar) -> None:
        self.session, self.grammar = session, grammar
        self._finished = False

    @classmethod
    def of_row(cls, extra_info: Mapping[str, Any]) -> SessionEpisode:
        """Opens the episode of a row that :func:`opera_agents.vlm.verl.rows` has written.

        Raises:
            AgentError: If the row names no server, or one with another number of tools.
            EndpointError: If the server cannot be reached, or refuses the sample.
        """
        config = RewardConfig(**json.loads(extra_info["reward_config"]))
        if config.server is None:
            raise AgentError("expected rows with a scoring server, found none: write them with --server.")
        client = _client(config.server)
        max_tools = client.served["max_tools"]
        if max_tools != config.max_tools:
            raise AgentError(
                f"expected a scoring server with --max-tools {config.max_tools}, as the prompts say, found "
                f"{max_tools} at {config.server}."
            )
        session = client.open_session(SampleSpec.from_json(json.loads(extra_info["spec"])))
        return cls(session, TurnGrammar(client.tool_names, client.degradations, max_tools))

    def take(self, message: Mapping[str, Any]) -> list[Message]:
        """Takes the turn that a message of the model asks for.

        Args:
            message: The message, with ``content`` and ``tool_calls``.

        Returns:
            The call and its result, which shows the photograph as it is now; empty at the end.

        Raises:
            EndpointError: If the server cannot be reached, or a tool fails there.
        """
        state = self.session.state
        decision = parse_call(message, self.grammar, tuple(state["plan"]))
        if decision.error is not None or (state["done"] and not decision.finish):
            return []
        self.session.step(decision)
        if decision.finish:
            self._finished = True
            return []
        call, result = turn_messages(decision, self.session.state["steps_left"])
        picture, *words = result["content"]
        return [call, result | {"content": [picture | {"image": self.session.image}, *words]}]

    def score(self) -> dict[str, float]:
        """Returns ``score``, which verl maximises, and its factors and numbers of tools, for the curves."""
        state = self.session.state
        r_f = float(self._finished)
        return {
            "score": r_f * state.get("total", 0.0),
            "r_q": state["reward"],
            "r_d": state.get("r_d", 0.0),
            "r_f": r_f,
            "tools_run": float(len(state["plan"]) + state["undone"]),
            "undone": float(state["undone"]),
        }

    def close(self) -> None:
        """Closes the session; else it would count among those of the server for minutes."""
        if not self.session.state["done"]:
            self.session.close()


def make_agent_loop(**options: Any) -> Any:
    """Makes an agent loop; verl calls this function for each episode, see ``presets/verl-turns.yaml``.

    Args:
        **options: What verl gives to its agent loops.
    """
    from verl.experimental.agent_loop.agent_loop import AgentLoopBase

    return type("RestorationAgentLoop", (RestorationTurns, AgentLoopBase), {})(**options)


class RestorationTurns:
    """What verl's ``AgentLoopBase`` lacks to play an episode; :func:`make_agent_loop` joins the two."""

    config: Any
    rollout_config: Any
    server_manager: Any
    tokenizer: Any
    ct_build_initial_tokens: Any
    ct_merge_assistant_token: Any
    ct_merge_context_msg: Any

    async def run(self, sampling_params: dict[str, Any], priority: int = 0, **row: Any) -> Any:
        """Plays the episode of a row; this is what verl calls.

        Args:
            sampling_params: How answers are sampled.
            priority: Place of the row in its batch.
            **row: The row, with ``raw_prompt`` and ``extra_info``.

        Returns:
            verl's ``AgentLoopOutput``: tokens, mask of those that the model wrote, images and the reward.
        """
        from verl.experimental.agent_loop.agent_loop import AgentLoopOutput

        episode = await asyncio.to_thread(SessionEpisode.of_row, row["extra_info"])
        try:
            played = await self._play(episode, sampling_params, priority, list(row["raw_prompt"]))
        finally:
            await asyncio.to_thread(episode.close)
        score = episode.score()
        played["extra_fields"] |= {"reward_extra_info": score, "turn_scores": [], "tool_rewards": []}
        return AgentLoopOutput(reward_score=score["score"], **played)

    async def _play(
        self,
        episode: SessionEpisode,
        sampling_params: dict[str, Any],
        priority: int,
        messages: list[Message],
    ) -> dict[str, Any]:
        """Plays until the episode ends or the tokens are used up; returns the fields of the output."""
        from verl.utils.profiler import simple_timer

        longest, functions = self.rollout_config.response_length, function_schemas()
        request_id = f"det-{int(priority)}" if self.rollout_config.full_determinism else uuid4().hex
        images, metrics, fields = _images(messages), dict[str, Any](), dict[str, Any]()
        mask, log_probs = list[int](), list[float]()
        tokens = await self.ct_build_initial_tokens(messages, tools=functions, images=images)
        num_prompt = len(tokens)
        while True:
            with simple_timer("generate_sequences", metrics):
                answer = await self.server_manager.generate(
                    request_id=request_id,
                    prompt_ids=tokens,
                    sampling_params=sampling_params,
                    image_data=images,
                )
            fields = answer.extra_fields | {k: v for k, v in fields.items() if k == "min_global_steps"}
            merged, mask, new_log_probs = await self.ct_merge_assistant_token(
                tokens, answer.token_ids, mask, log_probs if answer.log_probs else None, answer.log_probs
            )
            tokens, log_probs = merged.token_ids, new_log_probs or []
            if len(mask) >= longest:
                break
            message = await self._parse(answer.token_ids, functions)
            with simple_timer("tool_calls", metrics):
                turn = await asyncio.to_thread(episode.take, message)
            if not turn:
                break
            call, result = turn
            merged, new_mask, new_log_probs = await self.ct_merge_context_msg(
                [*messages, call], [*messages, *turn], tokens, mask, log_probs or None, tools=functions
            )
            if len(new_mask) >= longest:  # an image must not be cut off
                break
            messages, images = [*messages, *turn], [*images, *_images([result])]
            tokens, mask, log_probs = merged.token_ids, new_mask, new_log_probs or []
        return {
            "prompt_ids": tokens[:num_prompt],
            "response_ids": tokens[num_prompt:][:longest],
            "response_mask": mask[:longest],
            "response_logprobs": log_probs[:longest] or None,
            "multi_modal_data": {"images": images},
            "num_turns": len(messages),
            "metrics": metrics,
            "extra_fields": fields,
        }

    async def _parse(self, token_ids: list[int], functions: list[dict[str, Any]]) -> Message:
        """Returns an answer as a message; its calls are read by the parser that verl's settings name."""
        from verl.experimental.agent_loop.tool_parser import ToolParser
        from verl.tools.schemas import OpenAIFunctionToolSchema

        parser = ToolParser.get_tool_parser(self.rollout_config.multi_turn.format, self.tokenizer)
        schemas = [OpenAIFunctionToolSchema.model_validate(each) for each in functions]
        content, calls = await parser.extract_tool_calls(token_ids, schemas)
        named = [{"name": call.name, "arguments": _load_arguments(call.arguments)} for call in calls]
        functions_called = [{"function": each} for each in named]
        return {"role": "assistant", "content": content, "tool_calls": functions_called}


def _images(messages: list[Message]) -> list[Any]:
    """Returns the images in messages."""
    parts = [part for each in messages if isinstance(each["content"], list) for part in each["content"]]
    return [part["image"] for part in parts if part["type"] == "image"]


def _load_arguments(text: str) -> Any:
    """Returns the arguments of a call; the text itself, which is no call then, if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
