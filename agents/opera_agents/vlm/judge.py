"""The consistency reward R_c: is there reasoning, and does the plan follow from it?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from opera_agents.vlm.endpoint import Endpoint
from opera_env.errors import JudgeError, MissingWeightsError
from opera_env.tools import Toolbox
from opera_env.types import Decision


class Judge(Protocol):
    """Says of each decision whether its plan follows from its reasoning."""

    def judge(self, decisions: Sequence[Decision]) -> list[float]:
        """Returns 1 for yes and 0 for no, one per decision; 0 for what could not be read."""
        ...


class RulesJudge:
    """Goes by what is written, and needs no model.

    Reasoning must not be empty, must mention every degradation that is answered with, and must motivate
    every tool of the plan: by its name, or by a degradation that it is for.

    Args:
        toolbox: Whose tools are motivated by what.
    """

    def __init__(self, toolbox: Toolbox) -> None:
        self.toolbox = toolbox

    def judge(self, decisions: Sequence[Decision]) -> list[float]:
        return [float(self.find_inconsistency(decision) is None) for decision in decisions]

    def find_inconsistency(self, decision: Decision) -> str | None:
        """Says what is wrong with a decision; None if nothing is.

        Example:
            >>> judge = RulesJudge(Toolbox.load("lite"))
            >>> said = Decision(("unet.dehaze",), frozenset({"haze"}), "It is grainy.")
            >>> judge.find_inconsistency(said)
            'haze is answered with, and not reasoned about'
        """
        if decision.error is not None:
            return "it could not be read"
        reasoning = _plain(decision.reasoning or "")
        if not reasoning:
            return "there is no reasoning"
        for name in sorted(decision.degradations or ()):
            if _plain(name) not in reasoning:
                return f"{name} is answered with, and not reasoned about"
        for name in decision.plan:
            reasons = (name, *self.toolbox[name].degradations)
            if not any(_plain(reason) in reasoning for reason in reasons):
                return f"nothing is said that asks for {name}"
        return None


_SYSTEM = """\
You check whether plans for mending photographs follow from the reasoning that is given for them.
Say Yes if both hold: there is reasoning, and it says something of substance about what is seen and what is
to be done; and the plan is what this reasoning leads to, without contradicting it. Otherwise say No.
Answer with that one word."""


class _ModelJudge(ABC):
    """Asks a language model, as the paper does, in our words. What was asked before is not asked again."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, tuple[str, ...]], float] = {}

    def judge(self, decisions: Sequence[Decision]) -> list[float]:
        """Returns 1 for yes and 0 for no.

        Raises:
            EndpointError: If the model cannot be asked: a reward is never guessed.
            JudgeError: If it answers neither.
        """
        return [self._judge(decision) for decision in decisions]

    def _judge(self, decision: Decision) -> float:
        if decision.error is not None or not (decision.reasoning or "").strip():
            return 0.0
        key = (decision.reasoning or "", decision.plan)
        if key not in self._known:
            self._known[key] = parse_verdict(self._generate(question(decision)))
        return self._known[key]

    @abstractmethod
    def _generate(self, messages: list[dict[str, str]]) -> str:
        """Returns the model's answer."""


class EndpointJudge(_ModelJudge):
    """A language model behind an OpenAI-compatible server.

    Args:
        endpoint: The server.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__()
        self.endpoint = endpoint

    def _generate(self, messages: list[dict[str, str]]) -> str:
        return self.endpoint.ask(messages).text


class LocalJudge(_ModelJudge):
    """A language model of Hugging Face's on this machine, as the paper's, which takes the likeliest word.

    Args:
        model: Folder of a model and its tokenizer, or its name on a hub.
        device: Where it runs.

    Raises:
        MissingWeightsError: If there is no such model on this machine, and none can be had.
    """

    def __init__(self, model: Path | str, device: torch.device | str = "cpu") -> None:
        super().__init__()
        try:
            self.words: Any = AutoTokenizer.from_pretrained(model)
            net: Any = AutoModelForCausalLM.from_pretrained(model)
        except OSError as error:
            remedy = "a folder with a model and its tokenizer, or huggingface-cli download"
            raise MissingWeightsError(f"the judge {model}", Path(model), remedy) from error
        self.model = net.to(device).eval()

    @torch.inference_mode()
    def _generate(self, messages: list[dict[str, str]]) -> str:
        asked = self.words.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(self.model.device)
        answer = self.model.generate(**asked, max_new_tokens=8, do_sample=False)
        return self.words.decode(answer[0, asked["input_ids"].shape[1] :], skip_special_tokens=True)


def question(decision: Decision) -> list[dict[str, str]]:
    """Returns what a language model is asked about a decision."""
    plan = ", ".join(decision.plan) or "no tool at all"
    text = f"Reasoning:\n{decision.reasoning}\n\nPlan: {plan}\n\nDoes the plan follow? Yes or No."
    return [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": text}]


def parse_verdict(answer: str) -> float:
    """Reads a model's yes or no, whatever it puts around it.

    Raises:
        JudgeError: If it is neither.

    Example:
        >>> [parse_verdict(text) for text in ("Yes", "no.", "**Yes**, it does.")]
        [1.0, 0.0, 1.0]
    """
    word = answer.strip().strip("*'`" + '"').lower()
    for name, value in (("yes", 1.0), ("no", 0.0)):
        if word.startswith(name) and not word[len(name) : len(name) + 1].isalpha():
            return value
    raise JudgeError(f"expected Yes or No from the judge, found {answer[:100]!r}: choose another model.")


def _plain(text: str) -> str:
    return " ".join(text.lower().replace("_", " ").split())
