"""The grammar in which language models answer: reasoning, degradations and plan, each between tags."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from opera_env.errors import PlanParseError
from opera_env.types import Decision, Plan

ANSWER_TAGS = ("think", "degradation", "answer")
"""What an answer consists of, in this order."""

MAX_ANSWER_LENGTH = 20_000
"""Characters; whoever writes more is not read."""


@dataclass(frozen=True)
class AnswerGrammar:
    """Reads and writes what a language model answers: reasoning, degradations, plan, each between tags.

    An answer is ``<think>TEXT</think><degradation>LIST</degradation><answer>LIST</answer>`` with nothing
    but blanks around the tags. A list is written as in Python: names in quotes, commas, square brackets.
    It is read letter by letter, never evaluated.

    Attributes:
        tools: Names that a plan may have.
        degradations: Names that a set may have.
        max_tools: Longest plan.

    Source: the paper's table 14. Departure: a name that is not known, a degradation named twice and a plan
        that is too long are errors of format, too.

    Example:
        >>> grammar = AnswerGrammar(("denoise", "dehaze"), ("noise", "haze"), 4)
        >>> text = grammar.format(Decision(("denoise",), frozenset({"noise"}), "Grainy."))
        >>> text
        "<think>Grainy.</think><degradation>['noise']</degradation><answer>['denoise']</answer>"
        >>> grammar.parse(text).plan
        ('denoise',)
        >>> print(grammar.parse("<think>Hm.</think><answer>[]</answer>").error)
        expected <degradation> after </think>, found '<answer>[]</answer>'.
    """

    tools: Plan
    degradations: Plan
    max_tools: int

    def parse(self, text: str) -> Decision:
        """Reads an answer; never raises.

        Returns:
            What it says; or a decision whose ``error`` says what is wrong with the text, whose
            ``reasoning`` is what could be read of it, and whose plan must not be taken for a wish to do
            nothing.
        """
        reasoning: str | None = None
        try:
            if len(text) > MAX_ANSWER_LENGTH:
                raise PlanParseError(
                    f"an answer of {len(text):,} characters; {MAX_ANSWER_LENGTH:,} are read."
                )
            reasoning, rest = _read_tag("think", text, "at the beginning")
            wrong, rest = _read_tag("degradation", rest, "after </think>")
            answer, rest = _read_tag("answer", rest, "after </degradation>")
            if rest.strip():
                raise PlanParseError(f"expected nothing after </answer>, found {_truncate(rest)}.")
            said = _known(_parse_list(wrong), self.degradations, "degradation")
            plan = _known(_parse_list(answer), self.tools, "tool")
            if len(set(said)) < len(said):
                raise PlanParseError(f"a degradation is named twice in {_truncate(wrong)}.")
            if len(plan) > self.max_tools:
                raise PlanParseError(f"a plan of {len(plan)} tools; at most {self.max_tools} are allowed.")
        except PlanParseError as error:
            return Decision((), None, None if reasoning is None else reasoning.strip(), error)
        return Decision(plan, frozenset(said), reasoning.strip())

    def format(self, decision: Decision) -> str:
        """Writes a decision as an answer; :meth:`parse` is its inverse."""
        said = [name for name in self.degradations if name in (decision.degradations or ())]
        parts = (decision.reasoning or "", _format_list(said), _format_list(decision.plan))
        return "".join(f"<{tag}>{part}</{tag}>" for tag, part in zip(ANSWER_TAGS, parts, strict=True))


def _read_tag(tag: str, text: str, where: str) -> tuple[str, str]:
    """Returns what stands between a tag's two halves, and what follows."""
    text = text.lstrip()
    begin, end = f"<{tag}>", f"</{tag}>"
    if not text.startswith(begin):
        raise PlanParseError(f"expected {begin} {where}, found {_truncate(text)}.")
    inside, closed, rest = text.removeprefix(begin).partition(end)
    if not closed:
        raise PlanParseError(f"{begin} is never closed.")
    if any(half in inside for other in ANSWER_TAGS for half in (f"<{other}>", f"</{other}>")):
        raise PlanParseError(f"another tag inside of {begin}.")
    return inside, rest


def _parse_list(text: str) -> Plan:
    """Reads ``['a', "b"]``."""
    stripped = text.strip()
    if not (stripped.startswith("[") and stripped.endswith("]") and len(stripped) > 1):
        raise PlanParseError(f"expected a list in square brackets, found {_truncate(text)}.")
    inside = stripped[1:-1].strip()
    names: list[str] = []
    for item in inside.split(",") if inside else []:
        item = item.strip()
        if len(item) < 3 or item[0] not in "'\"" or item[-1] != item[0]:
            raise PlanParseError(f"expected names in quotes, found {_truncate(item)}.")
        names.append(item[1:-1])
    return tuple(names)


def _known(names: Plan, known: Plan, kind: str) -> Plan:
    for name in names:
        if name not in known:
            raise PlanParseError(f"unknown {kind} {_truncate(name)}; known are {', '.join(known)}.")
    return names


def _format_list(names: Iterable[str]) -> str:
    return "[" + ", ".join(f"'{name}'" for name in names) + "]"


def _truncate(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
