"""A vision-language model as an agent: it looks, reasons in words, and plans."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from opera_agents.vlm.prompt import make_grammar, messages, system_prompt
from opera_agents.vlm.saved import load_card
from opera_env.data.images import to_pil
from opera_env.errors import MissingWeightsError
from opera_env.tools import Toolbox
from opera_env.types import Decision, Observation

SHIPPED = Path(__file__).with_name("weights")
"""The tiny model that comes with the package, for the toolbox ``lite``."""


def make_vlm(toolbox: Toolbox, max_tools: int = 6, seed: int = 0, path: Path | str = SHIPPED) -> VLMAgent:
    """Makes the agent ``vlm``.

    Args:
        toolbox: What it plans with.
        max_tools: Longest plan.
        seed: Of second tries.
        path: Folder of a model and its processor, or its name on a hub; the shipped tiny one by default.

    Raises:
        MissingWeightsError: If there is no such model on this machine, and none can be had.
        ToolboxMismatchError: If it was trained with other tools.
    """
    return VLMAgent(toolbox, path, max_tools, seed=seed)


class VLMAgent:
    """Plans with any Hugging Face model that takes images and text.

    An answer that cannot be read is asked for once more, drawn this time; if that cannot be read either,
    the decision says so in its ``error``.

    Args:
        toolbox: What can be planned with.
        model: Folder of a model and its processor, or its name on a hub.
        max_tools: Longest plan.
        system: Instructions; by default those beside the model, or else those built from the toolbox.
        longest: Most tokens of an answer.
        batch: Images that are looked at together.
        seed: Of the second tries.

    Attributes:
        answers: What it wrote about the images it saw last.

    Raises:
        MissingWeightsError: If there is no such model on this machine, and none can be had.
        ToolboxMismatchError: If the model was trained with other tools, and no instructions are given.
    """

    closed_loop = False

    def __init__(
        self,
        toolbox: Toolbox,
        model: Path | str,
        max_tools: int = 6,
        system: str | None = None,
        longest: int = 512,
        batch: int = 8,
        seed: int = 0,
    ) -> None:
        try:
            processor: Any = AutoProcessor.from_pretrained(model)
            # A CPU computes half precision slowly, and many operations not at all.
            dtype = "auto" if toolbox.device.type == "cuda" else torch.float32
            net: Any = AutoModelForImageTextToText.from_pretrained(model, dtype=dtype)
        except OSError as error:
            remedy = "a folder with a model and its processor, or huggingface-cli download"
            raise MissingWeightsError(f"the vision-language model {model}", Path(model), remedy) from error
        if system is None:
            told = load_card(model)
            if told is not None:
                told.check(toolbox)
            system = system_prompt(toolbox, max_tools) if told is None else told.system
        net = net.to(toolbox.device).eval()
        self._begin(toolbox, net, processor, system, max_tools, longest, batch, seed)

    @classmethod
    def of(
        cls,
        toolbox: Toolbox,
        model: Any,
        processor: Any,
        system: str,
        max_tools: int = 6,
        longest: int = 512,
        batch: int = 8,
        seed: int = 0,
    ) -> VLMAgent:
        """Makes an agent of a model that is in memory already, such as one in training."""
        agent = cls.__new__(cls)
        agent._begin(toolbox, model, processor, system, max_tools, longest, batch, seed)
        return agent

    def _begin(
        self,
        toolbox: Toolbox,
        model: Any,
        processor: Any,
        system: str,
        max_tools: int,
        longest: int,
        batch: int,
        seed: int,
    ) -> None:
        self.model, self.processor, self.system = model, processor, system
        self.processor.tokenizer.padding_side = "left"
        self.grammar = make_grammar(toolbox, max_tools)
        self.longest, self.batch, self.seed = longest, batch, seed
        self.answers = list[str]()

    def act(self, observations: Sequence[Observation]) -> list[Decision]:
        images = [to_pil(observation.image) for observation in observations]
        self.answers = self.write(images)
        decisions = [self.grammar.parse(text) for text in self.answers]
        again = [index for index, decision in enumerate(decisions) if decision.error is not None]
        if again:
            texts = self.write([images[index] for index in again], draw=True)
            for index, text in zip(again, texts, strict=True):
                self.answers[index], decisions[index] = text, self.grammar.parse(text)
        return decisions

    @torch.inference_mode()
    def write(self, images: Sequence[Image.Image], draw: bool = False) -> list[str]:
        """Returns an answer in words for each image.

        Args:
            images: RGB.
            draw: Draw each word by its probability, instead of taking the likeliest.
        """
        prompt = self.processor.apply_chat_template(
            messages(self.system), add_generation_prompt=True, tokenize=False
        )
        texts: list[str] = []
        for first in range(0, len(images), self.batch):
            some = list(images[first : first + self.batch])
            inputs = self.processor(
                text=[prompt] * len(some),
                images=[[image] for image in some],
                return_tensors="pt",
                padding=True,
            ).to(self.model.device)
            with torch.random.fork_rng():
                torch.manual_seed(self.seed)
                written = self.model.generate(**inputs, max_new_tokens=self.longest, do_sample=draw)
            answers = written[:, inputs["input_ids"].shape[1] :]
            texts += self.processor.batch_decode(answers, skip_special_tokens=True)
        return texts
