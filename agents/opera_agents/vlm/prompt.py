"""What a vision-language model is asked, built from the tools that there are."""

from __future__ import annotations

from collections.abc import Sequence

from opera_env.answer import AnswerGrammar
from opera_env.degradations import DEGRADATIONS
from opera_env.tools import Toolbox
from opera_env.types import Decision

USER_PROMPT = "What is wrong with this photograph, and which tools mend it, in which order?"
"""What the user says beside the image."""


def make_grammar(toolbox: Toolbox, max_tools: int = 6) -> AnswerGrammar:
    """Returns the grammar of answers for a toolbox."""
    return AnswerGrammar(toolbox.names, DEGRADATIONS, max_tools)


def system_prompt(toolbox: Toolbox, max_tools: int = 6) -> str:
    """Writes the instructions: degradations, tools by family, the three tags, an example.

    Args:
        toolbox: Its names stand nowhere else, so that a prompt never names a tool that is not there.
        max_tools: Longest plan.

    Source: the structure and the tags of the paper's table 14; the wording is our own.
    """
    families = "\n\n".join(
        f"Tools of the family {family}:\n{_lines(names)}"
        for family, names in tools_by_family(toolbox).items()
    )
    return _SYSTEM.format(
        wrong=_lines(DEGRADATIONS),
        families=families,
        max_tools=max_tools,
        example=make_grammar(toolbox, max_tools).format(_example(toolbox)),
    )


_SYSTEM = """\
You mend photographs. You are shown one that may be damaged in several ways at once.
Find out what is wrong with it, then plan which tools are to be applied, one after the other.

What can be wrong:
{wrong}

{families}

Answer in three parts, with nothing before, between or after them:
<think>what you see, and why you choose these tools in this order</think>
<degradation>a Python list of what is wrong</degradation>
<answer>a Python list of the tools in the order in which they are applied</answer>
A plan has at most {max_tools} tools, the same one more than once if that helps; an empty list does nothing.
The order matters, and tools of different families that are for the same damage differ.

For example:
{example}"""


def messages(system: str, image: object | None = None) -> list[dict[str, object]]:
    """Returns a conversation as Hugging Face's processors read it; ``image`` None leaves a placeholder."""
    picture: dict[str, object] = {"type": "image"} if image is None else {"type": "image", "image": image}
    return [
        {"role": "system", "content": [{"type": "text", "text": system}]},
        {"role": "user", "content": [picture, {"type": "text", "text": USER_PROMPT}]},
    ]


def tools_by_family(toolbox: Toolbox) -> dict[str, list[str]]:
    """Returns the tools' names by family, which is what stands before the first dot."""
    families: dict[str, list[str]] = {}
    for name in toolbox.names:
        families.setdefault(name.partition(".")[0], []).append(name)
    return families


def _lines(names: Sequence[str]) -> str:
    return "\n".join(f"- {name}" for name in names)


def _example(toolbox: Toolbox) -> Decision:
    """A decision with two damages, or as many as there are tools for, the last one first."""
    chosen = {
        damage: next(tool.name for tool in toolbox if damage in tool.degradations)
        for damage in DEGRADATIONS
        if any(damage in tool.degradations for tool in toolbox)
    }
    shown = list(dict.fromkeys([*list(chosen)[-1:], *list(chosen)[:1]]))
    reasons = [
        f"I see {damage.replace('_', ' ')}, for which there is {chosen[damage]}." for damage in shown
    ]
    plan = tuple(chosen[damage] for damage in shown)
    return Decision(plan, frozenset(shown), " ".join(reasons) or "Nothing is wrong.")
