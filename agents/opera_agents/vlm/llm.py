"""The agent ``llm``: any OpenAI-compatible chat model that looks at its results and revises its plan."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from urllib.parse import parse_qs

from opera_agents.common.batches import observe_sample
from opera_agents.vlm.api import ApiAgent, split_name
from opera_agents.vlm.endpoint import Endpoint, image_part
from opera_env.data.images import to_pil
from opera_env.errors import AgentError, BudgetSpentError
from opera_env.tools import Toolbox
from opera_env.types import Decision, Plan, Sample, Scorer, sum_tokens

REFLECTION_PROMPT = (
    "This is the photograph after your plan {plan}. Look for what is still wrong with it, and for what the "
    "tools have spoilt. Answer in the three parts again: with the same plan if you keep it, or with a "
    "better plan for the first photograph."
)
"""Text of the user's message beside the result of a plan."""

_MAX_TURNS = 64


def make_llm(toolbox: Toolbox, max_tools: int = 6, path: str = "") -> ReflectingLlm:
    """Makes the agent ``llm:MODEL@URL``, such as ``llm:qwen@http://127.0.0.1:8000/v1?turns=5``.

    Args:
        toolbox: The tools, which the prompt names.
        max_tools: Maximum number of tools in a plan.
        path: Model and address of the server, as ``api`` takes them. ``?turns=N`` after them lets the model
            answer up to N times for an image; three by default.

    Raises:
        AgentError: If there is no model and address, or the number of turns cannot be used.
    """
    name, _, query = path.partition("?")
    base_url, model = split_name(name, "llm")
    options = parse_qs(query)
    turns = options.pop("turns", ["3"])[0]
    if options or not turns.isdecimal() or not 1 <= int(turns) <= _MAX_TURNS:
        raise AgentError(
            f"expected llm:MODEL@URL?turns=N with N from 1 to {_MAX_TURNS}, found {query!r} after '?': the "
            "address itself may have no other options."
        )
    agent = ApiAgent(toolbox, max_tools=max_tools, endpoint=Endpoint(base_url, model))
    return ReflectingLlm(agent, int(turns))


class ReflectingLlm:
    """Shows a chat model the result of its plan, until it keeps the plan or has no turns left.

    The model is the judge: it sees images and no scores. Its last answer that can be read is the decision.
    If the budget has no tools left for a plan, that plan is the decision without having been looked at.

    Kept from the literature: language models that plan in words, observe the results of tools and revise
    their plans. Left out: everything that is trained for restoration, and the memory of other images.

    Args:
        agent: The model, with its prompt and its grammar.
        turns: Maximum number of answers for an image; answers that are asked for again do not count.
    """

    def __init__(self, agent: ApiAgent, turns: int) -> None:
        self.agent, self.turns = agent, turns

    def search(self, samples: Sequence[Sample], scorer: Scorer) -> list[Plan]:
        return [decision.plan for decision in self.decide(samples, scorer)]

    def decide(self, samples: Sequence[Sample], scorer: Scorer) -> list[Decision]:
        """Returns the decision for each sample, with the reasoning of all answers.

        Raises:
            EndpointError: If the server cannot be reached or refuses a request.
        """
        return [self._decide(sample, scorer) for sample in samples]

    def _decide(self, sample: Sample, scorer: Scorer) -> Decision:
        observation = observe_sample(sample, self.agent.grammar.max_tools)
        conversation = self.agent.start_conversation(observation)
        decision = self.agent.ask(conversation)
        reasoning, tokens = [decision.reasoning or ""], [decision.tokens]
        with suppress(BudgetSpentError):
            for _ in range(self.turns - 1):
                if decision.error is not None or not decision.plan:
                    break
                (outcome,) = scorer.score([sample], [decision.plan])
                text = REFLECTION_PROMPT.format(plan=list(decision.plan))
                content = [image_part(to_pil(outcome.image())), {"type": "text", "text": text}]
                conversation.append({"role": "user", "content": content})
                revised = self.agent.ask(conversation)
                tokens.append(revised.tokens)
                if revised.error is not None or revised.plan == decision.plan:
                    break
                decision = revised
                reasoning.append(revised.reasoning or "")
        text = "\n".join(filter(None, reasoning)) or None
        return replace(decision, reasoning=text, tokens=sum_tokens(tokens))
