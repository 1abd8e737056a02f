"""The prompt names what there is and nothing else, and its example can be read."""

from __future__ import annotations

import re

from opera_agents.vlm.prompt import make_grammar, messages, system_prompt, tools_by_family
from opera_env.degradations import DEGRADATIONS
from opera_env.tools import Toolbox


def test_every_tool_and_degradation_is_named_once_in_the_lists(toolbox: Toolbox) -> None:
    for box in (toolbox, Toolbox.load("lite")):
        lines = re.findall(r"^- (\S+)$", system_prompt(box), re.MULTILINE)
        families = [name for names in tools_by_family(box).values() for name in names]
        assert lines == [*DEGRADATIONS, *families]
        assert sorted(families) == sorted(box.names)


def test_the_example_is_an_answer(toolbox: Toolbox) -> None:
    for box in (toolbox, Toolbox.load("lite"), Toolbox.load("lite").subset(["unet.dehaze"])):
        example = system_prompt(box).rpartition("\n")[2]
        said = make_grammar(box).parse(example)
        assert said.error is None and said.plan and said.degradations and said.reasoning


def test_a_toolbox_for_nothing_has_an_example_too() -> None:
    box = Toolbox().add("mine.invert", lambda image: 1 - image)
    said = make_grammar(box).parse(system_prompt(box).rpartition("\n")[2])
    assert said.error is None and said.plan == ()


def test_the_length_is_said(toolbox: Toolbox) -> None:
    assert "at most 3 tools" in system_prompt(toolbox, 3)


def test_a_conversation_has_a_place_for_the_image() -> None:
    system, user = messages("Mend.")
    assert system["content"] == [{"type": "text", "text": "Mend."}]
    assert user["content"][0] == {"type": "image"}  # type: ignore[index]
    assert messages("Mend.", "picture")[1]["content"][0]["image"] == "picture"  # type: ignore[index]
