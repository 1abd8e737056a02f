"""A chat model behind an OpenAI-compatible server that works turn by turn, with tool calling or without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from opera_agents.vlm.api import ApiAgent, split_name
from opera_agents.vlm.endpoint import ChatCompletion, Endpoint, image_part
from opera_agents.vlm.functions import format_calls, function_definitions, parse_calls
from opera_agents.vlm.prompt import build_function_system_prompt, build_turn_system_prompt, turn_prompt
from opera_agents.vlm.stepwise import earlier_observations
from opera_env.answer import TurnGrammar
from opera_env.data.images import to_pil
from opera_env.degradations import DEGRADATIONS
from opera_env.tools import Toolbox
from opera_env.types import Decision, Observation, sum_tokens


def make_api_stepwise(toolbox: Toolbox, max_tools: int = 6, path: str = "") -> ApiStepwiseAgent:
    """Makes the agent ``api_stepwise:MODEL@URL``; it calls functions, or answers in words if it calls none.

    Raises:
        AgentError: If there is no model and address.
    """
    return ApiStepwiseAgent(
        toolbox, endpoint=Endpoint(*split_name(path, "api_stepwise")), max_tools=max_tools
    )


class ApiStepwiseAgent(ApiAgent):
    """Plans turn by turn with a chat model behind a server.

    The model is offered the functions ``apply_tools``, ``undo`` and ``finish``. If it calls none, its text
    is read as an answer in words (:class:`opera_env.answer.TurnGrammar`). With ``calls_functions=False`` it
    is asked for answers in words alone, for servers and models without tool calling. If neither can be
    parsed, the model is told why and may answer once more.

    Args:
        toolbox: The tools that plans may contain.
        base_url: Base URL of the server, such as ``http://127.0.0.1:8000/v1``.
        model: Name of the model on the server.
        max_tools: Maximum number of tools that run.
        system_prompt: The system prompt; by default one built from the toolbox and the labels.
        max_concurrency: Maximum number of concurrent requests.
        endpoint: A server with further settings, used instead of ``base_url`` and ``model``.
        degradations: The labels that an answer may name, such as those of a data source.
        calls_functions: Whether the model is offered functions.
    """

    closed_loop = True
    uses_history = True

    def __init__(
        self,
        toolbox: Toolbox,
        base_url: str = "http://127.0.0.1:8000/v1",
        model: str = "default",
        max_tools: int = 6,
        system_prompt: str | None = None,
        max_concurrency: int = 4,
        endpoint: Endpoint | None = None,
        degradations: Sequence[str] = DEGRADATIONS,
        calls_functions: bool = True,
    ) -> None:
        build = build_function_system_prompt if calls_functions else build_turn_system_prompt
        system_prompt = system_prompt or build(toolbox, max_tools, degradations)
        super().__init__(
            toolbox, base_url, model, max_tools, system_prompt, max_concurrency, endpoint, degradations
        )
        self.turns = TurnGrammar(self.grammar.tools, self.grammar.degradations, max_tools)
        self.functions = function_definitions(self.turns) if calls_functions else []

    def _predict(self, observation: Observation) -> Decision:
        conversation = self.conversation(observation)
        completion = self.endpoint.chat(conversation, self.functions)
        decision = self._parse(completion, observation)
        if decision.error is None:
            return decision
        retry = f"That cannot be read: {decision.error} Answer once more."
        said = completion.full_text or "..."  # some servers refuse empty messages
        conversation += [{"role": "assistant", "content": said}, {"role": "user", "content": retry}]
        second = self._parse(self.endpoint.chat(conversation, self.functions), observation)
        return replace(second, tokens=sum_tokens([decision.tokens, second.tokens]))

    def _parse(self, completion: ChatCompletion, observation: Observation) -> Decision:
        used, steps_left = observation.used, observation.steps_left
        if completion.tool_calls:
            reasoning = (completion.reasoning or completion.text).strip()
            decision = parse_calls(completion.tool_calls, reasoning, self.turns, used, steps_left)
        else:
            decision = self.turns.parse_turn(completion.full_text, len(used), steps_left)
        return replace(decision, tokens=completion.tokens)

    def conversation(self, observation: Observation) -> list[dict[str, Any]]:
        """Returns the conversation before a decision, with images, as in OpenAI's API."""
        messages: list[dict[str, Any]] = [{"role": "system", "content": self.system_prompt}]
        for number, earlier in enumerate(earlier_observations(observation)):
            decision = observation.history[number].decision
            messages.append(_user_message(earlier))
            messages += self._answer_messages(decision, number)
        return [*messages, _user_message(observation)]

    def _answer_messages(self, decision: Decision, turn: int) -> list[dict[str, Any]]:
        """Returns an earlier decision as it stands in a conversation."""
        if not self.functions:
            return [{"role": "assistant", "content": self.turns.format_turn(decision)}]
        calls = format_calls(decision, turn)
        return [
            {"role": "assistant", "content": decision.reasoning or "", "tool_calls": calls},
            *({"role": "tool", "tool_call_id": call["id"], "content": "Done."} for call in calls),
        ]


def _user_message(observation: Observation) -> dict[str, Any]:
    text = {"type": "text", "text": turn_prompt(observation)}
    return {"role": "user", "content": [image_part(to_pil(observation.image)), text]}
