"""Somebody else's model plans: any OpenAI-compatible server, asked image by image."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from opera_agents.vlm.endpoint import Endpoint, picture
from opera_agents.vlm.prompt import USER_PROMPT, make_grammar, system_prompt
from opera_env.data.images import to_pil
from opera_env.tools import Toolbox
from opera_env.types import Decision, Observation


class ApiAgent:
    """Shows images to a chat model behind a server, and reads its answers.

    An answer that cannot be read is asked for once more, with what was wrong with it; if that does not
    help, the decision says so in its ``error``.

    Args:
        toolbox: What can be planned with.
        base_url: Such as ``http://127.0.0.1:8000/v1``.
        model: What the server calls the model.
        max_tools: Longest plan.
        system: Instructions of one's own; by default those built from the toolbox.
        at_once: Images that are asked about side by side.
        endpoint: A server with other settings, instead of ``base_url`` and ``model``.
    """

    closed_loop = False

    def __init__(
        self,
        toolbox: Toolbox,
        base_url: str = "http://127.0.0.1:8000/v1",
        model: str = "default",
        max_tools: int = 6,
        system: str | None = None,
        at_once: int = 4,
        endpoint: Endpoint | None = None,
    ) -> None:
        self.endpoint = endpoint or Endpoint(base_url, model)
        self.grammar = make_grammar(toolbox, max_tools)
        self.system = system or system_prompt(toolbox, max_tools)
        self.at_once = at_once

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        """Returns one decision per image.

        Raises:
            EndpointError: If the server stays away or refuses.
        """
        with ThreadPoolExecutor(self.at_once) as pool:
            return list(pool.map(self._decide, observations))

    def _decide(self, observation: Observation) -> Decision:
        user = [picture(to_pil(observation.image)), {"type": "text", "text": USER_PROMPT}]
        asked: list[dict[str, Any]] = [
            {"role": "system", "content": self.system},
            {"role": "user", "content": user},
        ]
        text = self.endpoint.ask(asked).whole
        decision = self.grammar.parse(text)
        if decision.error is None:
            return decision
        again = (
            f"That cannot be read: {decision.error} Answer once more, in the three parts and nothing else."
        )
        asked += [{"role": "assistant", "content": text}, {"role": "user", "content": again}]
        return self.grammar.parse(self.endpoint.ask(asked).whole)
