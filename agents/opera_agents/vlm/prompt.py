"""Prompts of vision-language models, built from the tools of a toolbox."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image

from opera_agents.common.batches import observe_sample
from opera_env.answer import AnswerGrammar
from opera_env.data.images import to_pil
from opera_env.degradations import DEGRADATIONS
from opera_env.tools import Toolbox
from opera_env.types import Decision, Observation, Sample

USER_PROMPT = "Which degradations does this photograph have, and which tools restore it, in which order?"
"""Text of the user's message beside the image.

The shipped tiny model was trained on this text: another text needs a new training.
"""


def make_grammar(
    toolbox: Toolbox, max_tools: int = 6, labels: Sequence[str] = DEGRADATIONS
) -> AnswerGrammar:
    """Returns the grammar of answers for a toolbox and the labels that answers can name."""
    return AnswerGrammar(toolbox.names, tuple(labels), max_tools)


def build_system_prompt(toolbox: Toolbox, max_tools: int = 6, labels: Sequence[str] = DEGRADATIONS) -> str:
    """Builds the system prompt: the degradations, the tools by family, the three tags, an example.

    Args:
        toolbox: The tools; the prompt names no others.
        max_tools: Maximum number of tools in a plan.
        labels: All degradations that answers can name; the built-in ones by default.

    Source: the structure and the tags of the paper's table 14; the wording is our own.
    """
    return _SYSTEM_TEMPLATE.format(
        degradations=_bullet_list(labels),
        families=_families(toolbox),
        max_tools=max_tools,
        example=make_grammar(toolbox, max_tools, labels).format(_example(toolbox, labels)),
    )


_SYSTEM_TEMPLATE = """\
You restore photographs. You are shown one that may be damaged in several ways at once.
Find out what is wrong with it, then plan which tools are to be applied, one after the other.

What can be wrong:
{degradations}

{families}

Answer in three parts, with nothing before, between or after them:
<think>what you see, and why you choose these tools in this order</think>
<degradation>a Python list of what is wrong</degradation>
<answer>a Python list of the tools in the order in which they are applied</answer>
A plan has at most {max_tools} tools, the same one more than once if that helps; an empty list does nothing.
The order matters, and tools of different families that are for the same damage differ.

For example:
{example}"""


def build_turn_system_prompt(
    toolbox: Toolbox, max_tools: int = 6, labels: Sequence[str] = DEGRADATIONS
) -> str:
    """Builds the system prompt of agents that observe the results of their tools; see above."""
    introduction = _turn_introduction(toolbox, labels)
    return introduction + _TURN_TEMPLATE.format(max_tools=max_tools, first=toolbox.names[0])


def build_function_system_prompt(
    toolbox: Toolbox,
    max_tools: int = 6,
    labels: Sequence[str] = DEGRADATIONS,
    function: str = "apply_tools",
) -> str:
    """Builds the system prompt of agents that call functions; see above.

    Args:
        toolbox: The tools; the prompt names no others.
        max_tools: Maximum number of tools that run.
        labels: All degradations that answers can name; the built-in ones by default.
        function: Name of the function that applies tools.
    """
    functions = _FUNCTION_TEMPLATE.format(max_tools=max_tools, function=function)
    return _turn_introduction(toolbox, labels) + functions


def _turn_introduction(toolbox: Toolbox, labels: Sequence[str]) -> str:
    return _TURN_INTRODUCTION.format(degradations=_bullet_list(labels), families=_families(toolbox))


_TURN_INTRODUCTION = """\
You restore photographs. You are shown one that may be damaged in several ways at once.
You apply tools to it, see the result, and go on from there, until it is as good as the tools can make it.

What can be wrong:
{degradations}

{families}

"""

_FUNCTION_TEMPLATE = """\
Say what you see and what follows from it, then call functions: {function}, undo, and finish at the end.
At most {max_tools} tools may run, those that you take back included."""

_TURN_TEMPLATE = """\
Begin each answer with
<think>what you see, and what follows from it</think>
and, if you like, <degradation>a Python list of what is wrong with the photograph</degradation>
Then do one of these, with nothing after it:
<apply>['{first}']</apply> applies tools in the order of the list, and shows you the result
<undo>1</undo> takes back so many of the tools that were applied last; <apply>...</apply> may follow
<answer>[]</answer> ends; tools in its list are applied, and you do not see their result
At most {max_tools} tools may run, those that you take back included."""


def turn_prompt(observation: Observation) -> str:
    """Returns the text of the user's message beside the image of a turn."""
    if not observation.history:
        return USER_PROMPT
    applied = ", ".join(observation.used) or "none"
    return (
        f"This is the result. Tools applied: {applied}. {observation.steps_left} more may run. "
        "What is to be done now?"
    )


def build_messages(system_prompt: str, image: object | None = None) -> list[dict[str, Any]]:
    """Returns the messages of a prompt in the form of Hugging Face's processors.

    Args:
        system_prompt: The system prompt.
        image: The image; None leaves a placeholder for the processor.
    """
    part: dict[str, Any] = {"type": "image"} if image is None else {"type": "image", "image": image}
    return [
        {"role": "system", "content": [{"type": "text", "text": system_prompt}]},
        {"role": "user", "content": [part, {"type": "text", "text": USER_PROMPT}]},
    ]


def sample_image(sample: Sample) -> Image.Image:
    """Returns the image that an agent observes of a sample before the first tool, as RGB at canvas size."""
    return to_pil(observe_sample(sample).image)


def tools_by_family(toolbox: Toolbox) -> dict[str, list[str]]:
    """Returns the tools' names by family; the family is the part of a name before the first dot."""
    families: dict[str, list[str]] = {}
    for name in toolbox.names:
        families.setdefault(name.partition(".")[0], []).append(name)
    return families


def _families(toolbox: Toolbox) -> str:
    return "\n\n".join(
        f"Tools of the family {family}:\n{_bullet_list(names)}"
        for family, names in tools_by_family(toolbox).items()
    )


def _bullet_list(names: Sequence[str]) -> str:
    return "\n".join(f"- {name}" for name in names)


def _example(toolbox: Toolbox, labels: Sequence[str]) -> Decision:
    """Returns a decision about two degradations, last one first; fewer if the toolbox has too few tools."""
    tools = {
        degradation: next(tool.name for tool in toolbox if degradation in tool.degradations)
        for degradation in labels
        if any(degradation in tool.degradations for tool in toolbox)
    }
    example_labels = list(dict.fromkeys([*list(tools)[-1:], *list(tools)[:1]]))
    reasons = [
        f"I see {name.replace('_', ' ')}, for which there is {tools[name]}." for name in example_labels
    ]
    plan = tuple(tools[name] for name in example_labels)
    return Decision(plan, frozenset(example_labels), " ".join(reasons) or "Nothing is wrong.")
