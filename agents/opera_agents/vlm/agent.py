"""A vision-language model as an agent: it observes the image, reasons in words and writes a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from PIL import Image

from opera_agents.vlm.pretrained import load_processor, load_vision_language_model
from opera_agents.vlm.prompt import build_messages, build_system_prompt, make_grammar
from opera_agents.vlm.saved import load_card, save_card, save_processor
from opera_env.data.images import to_pil
from opera_env.degradations import DEGRADATIONS
from opera_env.hub import HubMixin
from opera_env.seeding import content_seed
from opera_env.tools import Toolbox
from opera_env.types import Decision, Observation, TokenCount, sum_tokens

SHIPPED = Path(__file__).with_name("weights")
"""Folder of the tiny model that comes with the package, trained for the toolbox ``lite``."""


def make_vlm(toolbox: Toolbox, max_tools: int = 6, seed: int = 0, path: Path | str = SHIPPED) -> VLMAgent:
    """Makes the agent ``vlm``.

    Args:
        toolbox: The tools that plans may contain.
        max_tools: Maximum number of tools in a plan.
        seed: Seed of the sampled second attempts.
        path: Folder of a model and its processor, or the model's name on a hub; by default the shipped
            tiny model. On the command line: ``--agents vlm:FOLDER``.

    Raises:
        MissingWeightsError: If there is no such model.
        AgentError: If the folder contains code, or cannot be read.
        ToolboxMismatchError: If the model was trained for another toolbox.
    """
    return VLMAgent.from_pretrained(toolbox, path, max_tools, seed=seed)


class VLMAgent(HubMixin):
    """Plans with a Hugging Face model that takes images and text.

    The first answer is decoded greedily. If it cannot be parsed, a second answer is sampled; if that
    cannot be parsed either, the decision carries the ``error``.

    Args:
        toolbox: The tools that plans may contain.
        model: The model, on any device.
        processor: The model's processor.
        system_prompt: The system prompt.
        max_tools: Maximum number of tools in a plan.
        max_new_tokens: Maximum number of tokens of an answer.
        batch_size: Number of images in a batch.
        seed: Seed of the sampled second attempts.
        degradations: The labels that an answer may name.

    Attributes:
        calls_functions: Whether the model calls functions, turn by turn.
        completions: Answers about the images of the last call of :meth:`act`.
        degradations: The labels that an answer may name.
        token_counts: Tokens of each prompt and answer of the last call of :meth:`complete`.
    """

    closed_loop = False
    calls_functions = False

    def __init__(
        self,
        toolbox: Toolbox,
        model: Any,
        processor: Any,
        system_prompt: str,
        max_tools: int = 6,
        max_new_tokens: int = 512,
        batch_size: int = 8,
        seed: int = 0,
        degradations: Sequence[str] = DEGRADATIONS,
    ) -> None:
        self.model, self.processor, self.system_prompt = model, processor, system_prompt
        self.processor.tokenizer.padding_side = "left"
        self.toolbox = toolbox
        self.grammar = make_grammar(toolbox, max_tools, degradations)
        self.degradations = self.grammar.degradations
        self.max_new_tokens, self.batch_size, self.seed = max_new_tokens, batch_size, seed
        self.completions, self.token_counts = list[str](), list[TokenCount]()

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
        """Loads a model and its processor.

        Args:
            toolbox: The tools that plans may contain.
            name_or_path: Folder of a model and its processor, or the model's name on a hub. What was pushed
                with its card comes by :func:`opera_env.hub.pull_folder`.
            max_tools: Maximum number of tools in a plan.
            system_prompt: The system prompt; by default that of the card beside the model, or, without a
                card, one built from the toolbox.
            max_new_tokens: Maximum number of tokens of an answer.
            batch_size: Number of images in a batch.
            seed: Seed of the sampled second attempts.
            degradations: The labels that an answer may name; by default those of the card beside the
                model, or, without a card, the built-in ones.

        Raises:
            MissingWeightsError: If there is no such model.
            AgentError: If the folder contains code or cannot be read, or if the model was trained for
                another kind of agent.
            ToolboxMismatchError: If the model was trained for another toolbox and no system prompt is
                given.
        """
        card = load_card(name_or_path)
        if card is not None:
            card.check_turns(cls.calls_functions)
        if card is not None and system_prompt is None:
            card.check(toolbox)
            system_prompt = card.system_prompt
        if degradations is None:
            degradations = DEGRADATIONS if card is None else card.degradations
        if system_prompt is None:
            system_prompt = build_system_prompt(toolbox, max_tools, degradations)
        processor = load_processor(name_or_path)
        # CPUs compute slowly in half precision, and lack many of its operations.
        dtype = "auto" if toolbox.device.type == "cuda" else torch.float32
        model = load_vision_language_model(name_or_path, dtype=dtype)
        options = max_tools, max_new_tokens, batch_size, seed, degradations
        return cls(toolbox, model.to(toolbox.device).eval(), processor, system_prompt, *options)

    def save_pretrained(self, folder: Path) -> None:
        self.model.save_pretrained(folder)
        save_processor(self.processor, folder)
        save_card(self.system_prompt, self.toolbox, folder, self.degradations, self.calls_functions)

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        images = [to_pil(observation.image) for observation in observations]
        self.completions = self.generate(images)
        counts = self._take_counts(len(images))
        decisions = [self.grammar.parse(text) for text in self.completions]
        for index, decision in enumerate(decisions):
            if decision.error is not None:  # alone, so that the draws do not depend on the other images
                seed = content_seed(self.seed, observations[index].image)
                (text,) = self.generate([images[index]], seed)
                self.completions[index], decisions[index] = text, self.grammar.parse(text)
                counts[index] = sum_tokens([counts[index], *self._take_counts(1)])
        return [replace(each, tokens=count) for each, count in zip(decisions, counts, strict=True)]

    def _take_counts(self, number: int) -> list[TokenCount | None]:
        """Returns the tokens of the last answers; None for each if the model has not counted so many."""
        counts, self.token_counts = self.token_counts, []
        return [*counts] if len(counts) == number else [None] * number

    def generate(self, images: Sequence[Image.Image], seed: int | None = None) -> list[str]:
        """Generates an answer for each image.

        Args:
            images: RGB images.
            seed: Seed with which tokens are sampled; None decodes them greedily.
        """
        prompt = self.render(build_messages(self.system_prompt))
        return self.complete([prompt] * len(images), [[image] for image in images], seed)

    def render(self, messages: Sequence[Mapping[str, object]]) -> str:
        """Returns the prompt of a conversation, at whose end the model answers."""
        return self.processor.apply_chat_template(
            list(messages), add_generation_prompt=True, tokenize=False
        )

    @torch.inference_mode()
    def complete(
        self, prompts: Sequence[str], images: Sequence[Sequence[Image.Image]], seed: int | None = None
    ) -> list[str]:
        """Generates an answer to each prompt.

        Args:
            prompts: What :meth:`render` returns.
            images: RGB images of each prompt, in the order of their places in it.
            seed: Seed with which tokens are sampled; None decodes them greedily.
        """
        texts: list[str] = []
        self.token_counts = []
        for start in range(0, len(prompts), self.batch_size):
            chunk = slice(start, start + self.batch_size)
            inputs = self.processor(
                text=list(prompts[chunk]),
                images=[list(each) for each in images[chunk]],
                return_tensors="pt",
                padding=True,
            ).to(self.model.device)
            with torch.random.fork_rng():
                torch.manual_seed(seed or 0)
                output_ids = self.model.generate(
                    **inputs, max_new_tokens=self.max_new_tokens, do_sample=seed is not None
                )
            completion_ids = output_ids[:, inputs["input_ids"].shape[1] :]
            texts += self.processor.batch_decode(completion_ids, skip_special_tokens=True)
            self.token_counts += self._count_tokens(inputs["attention_mask"], completion_ids)
        return texts

    def _count_tokens(self, prompt_mask: torch.Tensor, completion_ids: torch.Tensor) -> list[TokenCount]:
        """Counts the tokens of prompts and of answers up to their ends, both (B, T) with padding."""
        tokenizer = self.processor.tokenizer
        ends = torch.tensor([tokenizer.eos_token_id, tokenizer.pad_token_id], device=completion_ids.device)
        before_end = torch.isin(completion_ids, ends).cumsum(1) == 0
        written = (before_end.sum(1) + 1).clamp(max=completion_ids.shape[1])
        counts = zip(prompt_mask.sum(1).tolist(), written.tolist(), strict=True)
        return [TokenCount(prompt, completion) for prompt, completion in counts]
