"""The consistency reward R_c: whether there is reasoning, and whether the plan follows from it.

Source: section 4.2 of the paper, whose judge is a language model. Departures: the prompt is our own, and
    rules can take the place of the model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch

from opera_agents.vlm.endpoint import Endpoint
from opera_agents.vlm.pretrained import load_language_model, load_tokenizer
from opera_env.errors import JudgeError
from opera_env.tools import Toolbox
from opera_env.types import Decision


class Judge(Protocol):
    """Computes R_c of decisions."""

    def judge(self, decisions: Sequence[Decision]) -> list[float]:
        """Returns 1 for each decision whose plan follows from its reasoning, and 0 for the others.

        A decision with an ``error`` gets 0.
        """
        ...


class RulesJudge:
    """Computes R_c by rules, without a model.

    The reasoning must not be empty. It must mention every degradation that the decision names. For each
    tool of the plan it must mention the tool's name or a degradation that the tool removes.

    Args:
        tools: The tools, which say what degradations they remove; or their degradations by name.
    """

    def __init__(self, tools: Toolbox | Mapping[str, Iterable[str]]) -> None:
        if isinstance(tools, Toolbox):
            tools = {tool.name: tool.degradations for tool in tools}
        self.degradations_of = {name: tuple(names) for name, names in tools.items()}

    def judge(self, decisions: Sequence[Decision]) -> list[float]:
        return [float(self.find_inconsistency(decision) is None) for decision in decisions]

    def find_inconsistency(self, decision: Decision) -> str | None:
        """Returns the first rule that a decision breaks, in words; None if it breaks none.

        Example:
            >>> judge = RulesJudge(Toolbox.load("lite"))
            >>> decision = Decision(("unet.dehaze",), frozenset({"haze"}), "It is grainy.")
            >>> judge.find_inconsistency(decision)
            'the reasoning does not mention haze'
        """
        if decision.error is not None:
            return "the answer could not be parsed"
        reasoning = _normalised(decision.reasoning or "")
        if not reasoning:
            return "there is no reasoning"
        for name in sorted(decision.degradations or ()):
            if _normalised(name) not in reasoning:
                return f"the reasoning does not mention {name}"
        for name in decision.plan:
            reasons = (name, *self.degradations_of[name])
            if not any(_normalised(reason) in reasoning for reason in reasons):
                return f"the reasoning gives no reason for {name}"
        return None


_JUDGE_SYSTEM_PROMPT = """\
You check whether plans for restoring photographs follow from the reasoning that is given for them.
Say Yes if both hold: there is reasoning, and it says something of substance about what is seen and what is
to be done; and the plan is what this reasoning leads to, without contradicting it. Otherwise say No.
Answer with that one word."""


class _ModelJudge(ABC):
    """Computes R_c with a language model; the answer about each decision is cached."""

    def __init__(self) -> None:
        self._cache: dict[tuple[str, tuple[str, ...]], float] = {}

    def judge(self, decisions: Sequence[Decision]) -> list[float]:
        """Returns 1 for each Yes and 0 for each No.

        Raises:
            EndpointError: If the model cannot be reached; a reward is never made up.
            JudgeError: If the answer is neither Yes nor No.
        """
        return [self._judge_one(decision) for decision in decisions]

    def _judge_one(self, decision: Decision) -> float:
        if decision.error is not None or not (decision.reasoning or "").strip():
            return 0.0
        key = (decision.reasoning or "", decision.plan)
        if key not in self._cache:
            self._cache[key] = parse_verdict(self._generate(judge_messages(decision)))
        return self._cache[key]

    @abstractmethod
    def _generate(self, messages: list[dict[str, str]]) -> str:
        """Returns the model's answer."""


class EndpointJudge(_ModelJudge):
    """Computes R_c with a language model behind an OpenAI-compatible server.

    Args:
        endpoint: The server.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__()
        self.endpoint = endpoint

    def _generate(self, messages: list[dict[str, str]]) -> str:
        return self.endpoint.chat(messages).text


class LocalJudge(_ModelJudge):
    """Computes R_c with a Hugging Face language model on this machine, decoded greedily.

    Args:
        model: Folder of a model and its tokenizer, or the model's name on a hub.
        device: Device of the model.

    Raises:
        MissingWeightsError: If there is no such model.
        AgentError: If the folder contains code, or cannot be read.
    """

    def __init__(self, model: Path | str, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.tokenizer = load_tokenizer(model)
        self.model = load_language_model(model).to(device).eval()

    @torch.inference_mode()
    def _generate(self, messages: list[dict[str, str]]) -> str:
        inputs = self.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(self.model.device)
        output_ids = self.model.generate(**inputs, max_new_tokens=8, do_sample=False)
        completion_ids = output_ids[0, inputs["input_ids"].shape[1] :]
        return self.tokenizer.decode(completion_ids, skip_special_tokens=True)


def judge_messages(decision: Decision) -> list[dict[str, str]]:
    """Returns the prompt with which a language model judges a decision, as messages."""
    plan = ", ".join(decision.plan) or "no tool at all"
    text = f"Reasoning:\n{decision.reasoning}\n\nPlan: {plan}\n\nDoes the plan follow? Yes or No."
    return [{"role": "system", "content": _JUDGE_SYSTEM_PROMPT}, {"role": "user", "content": text}]


def parse_verdict(answer: str) -> float:
    """Parses Yes or No at the beginning of an answer: 1 or 0.

    Raises:
        JudgeError: If the answer begins with neither.

    Example:
        >>> [parse_verdict(text) for text in ("Yes", "no.", "**Yes**, it does.")]
        [1.0, 0.0, 1.0]
    """
    word = answer.strip().strip("*'`" + '"').lower()
    for name, value in (("yes", 1.0), ("no", 0.0)):
        if word.startswith(name) and not word[len(name) : len(name) + 1].isalpha():
            return value
    raise JudgeError(f"expected Yes or No from the judge, found {answer[:100]!r}: choose another model.")


def _normalised(text: str) -> str:
    return " ".join(text.lower().replace("_", " ").split())
