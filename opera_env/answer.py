"""The format of the answers of language models: reasoning, degradations and plan, each in a tag."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from opera_env.errors import PlanParseError
from opera_env.types import Decision, Plan

ANSWER_TAGS = ("think", "degradation", "answer")
"""The tags of an answer, in this order."""

TURN_TAGS = (*ANSWER_TAGS, "undo", "apply")
"""The tags of answers that are given turn by turn."""

MAX_ANSWER_LENGTH = 20_000
"""Maximum number of characters of an answer; longer answers are parse errors."""


@dataclass(frozen=True)
class AnswerGrammar:
    """Parses and formats the answers of language models.

    An answer is ``<think>TEXT</think><degradation>LIST</degradation><answer>LIST</answer>``, with only
    whitespace between and around the tags. A list is written as in Python: names in quotes, separated by
    commas, in square brackets. It is parsed and never evaluated.

    Attributes:
        tools: Names of the tools that a plan may have.
        degradations: Names of the degradations that an answer may predict.
        max_tools: Maximum number of tools in a plan.

    Source: table 14 of the paper. Departure: an unknown name, a repeated degradation and a plan that is too
        long are also format errors.

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
        """Parses an answer; never raises.

        Args:
            text: The answer of a language model.

        Returns:
            The decision. If the answer is not in the format, the decision has an ``error``, the reasoning
            if that could be parsed, and an empty plan, which does not mean that the agent chose it.
        """
        reasoning: str | None = None
        try:
            if len(text) > MAX_ANSWER_LENGTH:
                raise PlanParseError(
                    f"expected at most {MAX_ANSWER_LENGTH:,} characters, found {len(text):,}."
                )
            reasoning, rest = _read_tag("think", text, "at the beginning")
            predicted_text, rest = _read_tag("degradation", rest, "after </think>")
            plan_text, rest = _read_tag("answer", rest, "after </degradation>")
            if rest.strip():
                raise PlanParseError(f"expected nothing after </answer>, found {_truncate(rest)}.")
            predicted = _check_names(_parse_list(predicted_text), self.degradations, "degradation")
            plan = _check_names(_parse_list(plan_text), self.tools, "tool")
            if len(set(predicted)) < len(predicted):
                raise PlanParseError(f"a degradation is named twice in {_truncate(predicted_text)}.")
            if len(plan) > self.max_tools:
                raise PlanParseError(f"expected at most {self.max_tools} tools, found {len(plan)}.")
        except PlanParseError as error:
            return Decision((), None, None if reasoning is None else reasoning.strip(), error)
        return Decision(plan, frozenset(predicted), reasoning.strip())

    def format(self, decision: Decision) -> str:
        """Formats a decision as an answer; :meth:`parse` is the inverse."""
        predicted = [name for name in self.degradations if name in (decision.degradations or ())]
        parts = (decision.reasoning or "", _format_list(predicted), _format_list(decision.plan))
        return "".join(f"<{tag}>{part}</{tag}>" for tag, part in zip(ANSWER_TAGS, parts, strict=True))


@dataclass(frozen=True)
class TurnGrammar(AnswerGrammar):
    """Parses and formats the answers of language models that observe the result of their tools.

    An answer begins with ``<think>TEXT</think>``, and ``<degradation>LIST</degradation>`` may follow. Then
    comes what is to be done:

    - ``<apply>LIST</apply>`` applies tools and observes the result;
    - ``<undo>NUMBER</undo>`` takes back that many tools, and ``<apply>LIST</apply>`` may follow;
    - ``<answer>LIST</answer>`` applies tools and ends the episode; the list may be empty.

    So an answer of :class:`AnswerGrammar` is one here too: the whole plan at once.

    Example:
        >>> grammar = TurnGrammar(("denoise", "dehaze"), ("noise", "haze"), 4)
        >>> decision = grammar.parse_turn("<think>Grainy.</think><apply>['denoise']</apply>", 0, 4)
        >>> decision.plan, decision.finish
        (('denoise',), False)
        >>> grammar.format_turn(Decision(("dehaze",), reasoning="Too smooth.", undo=1))
        "<think>Too smooth.</think><undo>1</undo><apply>['dehaze']</apply>"
    """

    def parse_turn(self, text: str, num_used: int, steps_left: int) -> Decision:
        """Parses an answer; never raises.

        Args:
            text: The answer of a language model.
            num_used: Number of tools in the plan so far, which can be taken back.
            steps_left: How many tools may still run.

        Returns:
            The decision. If the answer is not in the format, the decision has an ``error``, and is empty.
        """
        reasoning: str | None = None
        try:
            if len(text) > MAX_ANSWER_LENGTH:
                raise PlanParseError(
                    f"expected at most {MAX_ANSWER_LENGTH:,} characters, found {len(text):,}."
                )
            reasoning, rest = _read_tag("think", text, "at the beginning", TURN_TAGS)
            predicted, rest = self._read_degradations(rest)
            undo, rest = _read_undo(rest, num_used)
            plan: Plan = ()
            finish = rest.lstrip().startswith("<answer>")
            if finish or not undo or rest.strip():
                after = "after <undo>" if undo else "or <undo> or <answer> after the reasoning"
                plan_text, rest = _read_tag("answer" if finish else "apply", rest, after, TURN_TAGS)
                plan = _check_names(_parse_list(plan_text), self.tools, "tool")
                if not plan and not finish:
                    raise PlanParseError("expected tools in <apply>, found none; <answer>[]</answer> ends.")
            if rest.strip():
                raise PlanParseError(f"expected nothing after the action, found {_truncate(rest)}.")
            if len(plan) > steps_left:
                raise PlanParseError(f"expected at most {steps_left} more tools, found {len(plan)}.")
        except PlanParseError as error:
            return Decision((), None, None if reasoning is None else reasoning.strip(), error)
        return Decision(plan, predicted, reasoning.strip(), undo=undo, finish=finish)

    def _read_degradations(self, text: str) -> tuple[frozenset[str] | None, str]:
        """Returns the degradations at the start of a text, None if it begins otherwise; and the rest."""
        if not text.lstrip().startswith("<degradation>"):
            return None, text
        content, rest = _read_tag("degradation", text, "after </think>", TURN_TAGS)
        predicted = _check_names(_parse_list(content), self.degradations, "degradation")
        if len(set(predicted)) < len(predicted):
            raise PlanParseError(f"a degradation is named twice in {_truncate(content)}.")
        return frozenset(predicted), rest

    def format_turn(self, decision: Decision) -> str:
        """Formats a decision as an answer; :meth:`parse_turn` is the inverse."""
        text = f"<think>{decision.reasoning or ''}</think>"
        if decision.degradations is not None:
            predicted = [name for name in self.degradations if name in decision.degradations]
            text += f"<degradation>{_format_list(predicted)}</degradation>"
        if decision.undo:
            text += f"<undo>{decision.undo}</undo>"
        is_end = decision.finish or (not decision.plan and not decision.undo)
        if is_end or decision.plan:
            tag = "answer" if is_end else "apply"
            text += f"<{tag}>{_format_list(decision.plan)}</{tag}>"
        return text


def _read_undo(text: str, num_used: int) -> tuple[int, str]:
    """Returns the number of tools to take back, 0 if a text does not begin with it; and the rest."""
    if not text.lstrip().startswith("<undo>"):
        return 0, text
    content, rest = _read_tag("undo", text, "", TURN_TAGS)
    number = content.strip()
    if not (number.isascii() and number.isdigit() and len(number) < 4 and 1 <= int(number) <= num_used):
        expected = f"a number from 1 to {num_used}" if num_used else "no <undo>, as no tool was applied"
        raise PlanParseError(f"expected {expected}, found {_truncate(content)}.")
    return int(number), rest


def _read_tag(tag: str, text: str, where: str, tags: tuple[str, ...] = ANSWER_TAGS) -> tuple[str, str]:
    """Returns the content of the tag at the start of a text, and the text after the tag."""
    text = text.lstrip()
    start_tag, end_tag = f"<{tag}>", f"</{tag}>"
    if not text.startswith(start_tag):
        raise PlanParseError(f"expected {start_tag} {where}, found {_truncate(text)}.")
    content, closed, rest = text.removeprefix(start_tag).partition(end_tag)
    if not closed:
        raise PlanParseError(f"expected {end_tag} after {start_tag}, found none.")
    if any(marker in content for other in tags for marker in (f"<{other}>", f"</{other}>")):
        raise PlanParseError(f"expected text in {start_tag}, found another tag.")
    return content, rest


def _parse_list(text: str) -> Plan:
    """Parses a list of names such as ``['a', "b"]``."""
    stripped = text.strip()
    if not (stripped.startswith("[") and stripped.endswith("]") and len(stripped) > 1):
        raise PlanParseError(f"expected a list in square brackets, found {_truncate(text)}.")
    content = stripped[1:-1].strip()
    names: list[str] = []
    for item in content.split(",") if content else []:
        item = item.strip()
        if len(item) < 3 or item[0] not in "'\"" or item[-1] != item[0]:
            raise PlanParseError(f"expected names in quotes, found {_truncate(item)}.")
        names.append(item[1:-1])
    return tuple(names)


def _check_names(names: Plan, allowed: Plan, kind: str) -> Plan:
    """Returns the names if all of them are allowed."""
    for name in names:
        if name not in allowed:
            raise PlanParseError(f"unknown {kind} {_truncate(name)}; expected one of {', '.join(allowed)}.")
    return names


def _format_list(names: Iterable[str]) -> str:
    return "[" + ", ".join(f"'{name}'" for name in names) + "]"


def _truncate(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
