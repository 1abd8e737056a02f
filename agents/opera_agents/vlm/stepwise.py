"""A vision-language model that works turn by turn: it applies tools, observes the result and goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from PIL import Image

from opera_agents.vlm.agent import SHIPPED, VLMAgent
from opera_agents.vlm.conversation import Message, turn_messages
from opera_agents.vlm.environment import function_schemas
from opera_agents.vlm.functions import parse_call
from opera_agents.vlm.pretrained import load_processor
from opera_agents.vlm.prompt import (
    build_function_system_prompt,
    build_messages,
    build_turn_system_prompt,
    turn_prompt,
)
from opera_agents.vlm.saved import load_card
from opera_env.answer import TurnGrammar
from opera_env.data.images import to_pil
from opera_env.degradations import DEGRADATIONS
from opera_env.errors import AgentError, PlanParseError, error_message
from opera_env.seeding import content_seed
from opera_env.tools import Toolbox
from opera_env.types import Decision, Observation, sum_tokens


def make_vlm_stepwise(
    toolbox: Toolbox, max_tools: int = 6, seed: int = 0, path: Path | str = SHIPPED
) -> VLMStepwiseAgent:
    """Makes the agent ``vlm_stepwise``; arguments and errors as :func:`opera_agents.vlm.agent.make_vlm`.

    A model whose card says that it was trained for turns calls functions, others answer in words.
    """
    card = load_card(path)
    kind = VLMFunctionAgent if card is not None and card.turns else VLMStepwiseAgent
    return kind.from_pretrained(toolbox, path, max_tools, seed=seed)


class VLMStepwiseAgent(VLMAgent):
    """Plans tool by tool with a Hugging Face model that takes images and text.

    In each turn the model has the conversation so far: what it observed, what it answered, and the present
    image. It applies tools, takes tools back, or ends (:class:`opera_env.answer.TurnGrammar`).

    A model that was trained to write the whole plan at once, such as the shipped one, knows no such
    conversation. With ``plans_anew`` it is asked for a plan for the present image in every turn, as if it
    were a new photograph, and the first tool of that plan is applied.

    Args:
        toolbox: The tools that plans may contain.
        model: The model, on any device.
        processor: The model's processor.
        system_prompt: The system prompt.
        *options: Further arguments of :class:`VLMAgent`, and the following.
        plans_anew: Whether the model is asked for a whole plan in every turn.
        **named_options: The same by name.
    """

    closed_loop = True
    uses_history = True

    def __init__(
        self,
        toolbox: Toolbox,
        model: Any,
        processor: Any,
        system_prompt: str,
        *options: Any,
        plans_anew: bool = False,
        **named_options: Any,
    ) -> None:
        super().__init__(toolbox, model, processor, system_prompt, *options, **named_options)
        self.plans_anew = plans_anew
        self.turns = TurnGrammar(self.grammar.tools, self.grammar.degradations, self.grammar.max_tools)

    @classmethod
    def from_pretrained(
        cls,
        toolbox: Toolbox,
        name_or_path: Path | str,
        max_tools: int = 6,
        system_prompt: str | None = None,
        max_new_tokens: int = 512,
        batch_size: int = 8,
        seed: int = 0,
        degradations: Sequence[str] | None = None,
    ) -> Self:
        """Loads a model; one with a card, which was trained to write the whole plan, plans anew each turn.

        Arguments and errors are those of :meth:`VLMAgent.from_pretrained`.
        """
        card = load_card(name_or_path)
        if card is None and system_prompt is None:
            load_processor(name_or_path)  # before anything else is said about the model
            labels = DEGRADATIONS if degradations is None else degradations
            system_prompt = cls._build_system_prompt(toolbox, max_tools, labels)
        agent = super().from_pretrained(
            toolbox,
            name_or_path,
            max_tools,
            system_prompt,
            max_new_tokens,
            batch_size,
            seed,
            degradations,
        )
        agent.plans_anew = card is not None and not card.turns
        return agent

    @staticmethod
    def _build_system_prompt(toolbox: Toolbox, max_tools: int, labels: Sequence[str]) -> str:
        return build_turn_system_prompt(toolbox, max_tools, labels)

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        if self.plans_anew:
            return [replace(decision, plan=decision.plan[:1]) for decision in super().act(observations)]
        prompts = [self.render(self.conversation(observation)) for observation in observations]
        images = [conversation_images(observation) for observation in observations]
        self.completions = self.complete(prompts, images)
        counts = self._take_counts(len(prompts))
        decisions = [
            self._parse(text, observation)
            for text, observation in zip(self.completions, observations, strict=True)
        ]
        for index, (decision, observation) in enumerate(zip(decisions, observations, strict=True)):
            if decision.error is not None:  # alone, so that the draws do not depend on the other images
                seed = content_seed(self.seed, observation.image)
                (text,) = self.complete(prompts[index : index + 1], images[index : index + 1], seed)
                self.completions[index], decisions[index] = text, self._parse(text, observation)
                counts[index] = sum_tokens([counts[index], *self._take_counts(1)])
        return [replace(each, tokens=count) for each, count in zip(decisions, counts, strict=True)]

    def _parse(self, text: str, observation: Observation) -> Decision:
        return self.turns.parse_turn(text, len(observation.used), observation.steps_left)

    def conversation(self, observation: Observation) -> list[Message]:
        """Returns the conversation before a decision, as messages with places for the images."""
        messages: list[Message] = [
            {"role": "system", "content": [{"type": "text", "text": self.system_prompt}]}
        ]
        for earlier in earlier_observations(observation):
            messages.append(_user_message(turn_prompt(earlier)))
            decision = observation.history[len(earlier.history)].decision
            answer = self.turns.format_turn(decision)
            messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        return [*messages, _user_message(turn_prompt(observation))]


class VLMFunctionAgent(VLMStepwiseAgent):
    """Plans tool by tool with a model that was trained to call ``apply_tool``, ``undo`` and ``finish``.

    Its conversation is that of :class:`opera_agents.vlm.environment.RestorationEnvironment`. Arguments are
    those of :class:`VLMStepwiseAgent`.

    Raises:
        AgentError: If the processor does not say how calls are read.
    """

    calls_functions = True

    def __init__(
        self,
        toolbox: Toolbox,
        model: Any,
        processor: Any,
        system_prompt: str,
        *options: Any,
        **named_options: Any,
    ) -> None:
        check_reads_calls(processor)
        super().__init__(toolbox, model, processor, system_prompt, *options, **named_options)
        self.functions = function_schemas()

    @staticmethod
    def _build_system_prompt(toolbox: Toolbox, max_tools: int, labels: Sequence[str]) -> str:
        return build_function_system_prompt(toolbox, max_tools, labels, "apply_tool")

    def conversation(self, observation: Observation) -> list[Message]:
        after = [*earlier_observations(observation), observation][1:]
        messages: list[Message] = [*build_messages(self.system_prompt)]
        for turn, result in zip(observation.history, after, strict=True):
            messages += turn_messages(turn.decision, result.steps_left)
        return messages

    def render(self, messages: Sequence[Mapping[str, object]]) -> str:
        return self.processor.apply_chat_template(
            list(messages), tools=self.functions, add_generation_prompt=True, tokenize=False
        )

    def _parse(self, text: str, observation: Observation) -> Decision:
        prompt = self.render(self.conversation(observation))
        try:
            message = self.processor.tokenizer.parse_response(text, prefix=prompt, tools=self.functions)
        except (ValueError, TypeError, RecursionError) as error:
            return Decision(
                (), error=PlanParseError(f"a call cannot be read: {error_message(error)[:200]}")
            )
        return parse_call(message, self.turns, observation.used)


def check_reads_calls(processor: Any) -> None:
    """Checks that a processor says how calls of functions are read.

    Raises:
        AgentError: If it does not.
    """
    if getattr(processor.tokenizer, "response_template", None) is None:
        raise AgentError(
            "expected a tokenizer with a response_template, which says how calls of functions are read, "
            "found none: set one and save the processor beside the model, as opera_agents.vlm.tiny does."
        )


def _user_message(text: str) -> Message:
    return {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}


def conversation_images(observation: Observation) -> list[Image.Image]:
    """Returns the images of all turns, the present one last."""
    images = [*(turn.image for turn in observation.history), observation.image]
    return [to_pil(image) for image in images]


def earlier_observations(observation: Observation) -> list[Observation]:
    """Returns what was observed in the earlier turns of an episode."""
    earlier: list[Observation] = []
    used: tuple[str, ...] = ()
    history = observation.history
    run = observation.steps_left + sum(len(turn.decision.plan) for turn in history)
    for number, turn in enumerate(history):
        seen = Observation(turn.image, observation.original, used, run, observation.input_size)
        earlier.append(replace(seen, history=history[:number]))
        used = (*used[: len(used) - turn.decision.undo], *turn.decision.plan)
        run -= len(turn.decision.plan)
    return earlier
