"""A chat model behind an OpenAI-compatible server as an agent; images are sent concurrently."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from opera_agents.vlm.endpoint import Endpoint, image_part
from opera_agents.vlm.prompt import USER_PROMPT, build_system_prompt, make_grammar
from opera_env.data.images import to_pil
from opera_env.degradations import DEGRADATIONS
from opera_env.errors import AgentError
from opera_env.tools import Toolbox
from opera_env.types import Decision, Observation, sum_tokens


def make_api(toolbox: Toolbox, max_tools: int = 6, path: str = "") -> ApiAgent:
    """Makes the agent ``api:MODEL@URL``, such as ``api:qwen@http://127.0.0.1:8000/v1``.

    Raises:
        AgentError: If there is no model and address.
    """
    return ApiAgent(toolbox, endpoint=Endpoint(*split_name(path, "api")), max_tools=max_tools)


def split_name(name: str, agent: str) -> tuple[str, str]:
    """Returns the address and the model of ``MODEL@URL``.

    Raises:
        AgentError: If it is something else.
    """
    model, _, address = name.rpartition("@")
    if not model or not address.startswith(("http://", "https://")):
        raise AgentError(
            f"agent {agent!r} needs a model and a server: expected {agent}:MODEL@URL, such as "
            f"{agent}:default@http://127.0.0.1:8000/v1, found {agent}:{name}."
        )
    return address, model


class ApiAgent:
    """Plans with a chat model behind a server.

    If an answer cannot be parsed, the model is told why and may answer once more; if the second answer
    cannot be parsed either, the decision carries the ``error``.

    Args:
        toolbox: The tools that plans may contain.
        base_url: Base URL of the server, such as ``http://127.0.0.1:8000/v1``.
        model: Name of the model on the server.
        max_tools: Maximum number of tools in a plan.
        system_prompt: The system prompt; by default one built from the toolbox and the labels.
        max_concurrency: Maximum number of concurrent requests.
        endpoint: A server with further settings, used instead of ``base_url`` and ``model``.
        degradations: The labels that an answer may name, such as those of a data source.

    Attributes:
        degradations: The labels that an answer may name.
    """

    closed_loop = False

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
    ) -> None:
        self.endpoint = endpoint or Endpoint(base_url, model)
        self.grammar = make_grammar(toolbox, max_tools, degradations)
        self.degradations = self.grammar.degradations
        self.system_prompt = system_prompt or build_system_prompt(toolbox, max_tools, degradations)
        self.max_concurrency = max_concurrency

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        """Returns one decision for each image.

        Raises:
            EndpointError: If the server cannot be reached or refuses a request.
        """
        with ThreadPoolExecutor(self.max_concurrency) as pool:
            return list(pool.map(self._predict, observations))

    def _predict(self, observation: Observation) -> Decision:
        return self.ask(self.start_conversation(observation))

    def start_conversation(self, observation: Observation) -> list[dict[str, Any]]:
        """Returns the messages that ask for a plan: the system prompt, and the image with the question."""
        user = [image_part(to_pil(observation.image)), {"type": "text", "text": USER_PROMPT}]
        return [{"role": "system", "content": self.system_prompt}, {"role": "user", "content": user}]

    def ask(self, conversation: list[dict[str, Any]]) -> Decision:
        """Asks the model, once more if its answer cannot be parsed, and adds the answers to the messages.

        Raises:
            EndpointError: If the server cannot be reached or refuses a request.
        """
        decision = self._answer(conversation)
        if decision.error is None:
            return decision
        retry = (
            f"That cannot be read: {decision.error} Answer once more, in the three parts and nothing else."
        )
        conversation.append({"role": "user", "content": retry})
        second = self._answer(conversation)
        return replace(second, tokens=sum_tokens([decision.tokens, second.tokens]))

    def _answer(self, conversation: list[dict[str, Any]]) -> Decision:
        completion = self.endpoint.chat(conversation)
        conversation.append({"role": "assistant", "content": completion.full_text})
        return replace(self.grammar.parse(completion.full_text), tokens=completion.tokens)
