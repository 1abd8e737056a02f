"""Prompts name the tools of the toolbox and no others, and their example can be parsed."""

from __future__ import annotations

import re

from torch import nn

from opera_agents.vlm.prompt import build_messages, build_system_prompt, make_grammar, tools_by_family
from opera_env.degradations import DEGRADATIONS
from opera_env.tools import Toolbox


def test_every_tool_and_degradation_is_named_once_in_the_lists(toolbox: Toolbox) -> None:
    for box in (toolbox, Toolbox.load("lite")):
        lines = re.findall(r"^- (\S+)$", build_system_prompt(box), re.MULTILINE)
        families = [name for names in tools_by_family(box).values() for name in names]
        assert lines == [*DEGRADATIONS, *families]
        assert sorted(families) == sorted(box.names)


def test_the_prompt_names_the_given_labels(toolbox: Toolbox) -> None:
    toolbox.add("tiny.despeckle", nn.Identity(), degradations=["salt_and_pepper"])
    labels = ("noise", "salt_and_pepper")
    prompt = build_system_prompt(toolbox, labels=labels)
    assert re.findall(r"^- (\S+)$", prompt, re.MULTILINE)[:3] == [*labels, toolbox.names[0]]
    decision = make_grammar(toolbox, labels=labels).parse(prompt.rpartition("\n")[2])
    assert decision.degradations == set(labels) and "tiny.despeckle" in decision.plan


def test_the_example_can_be_parsed(toolbox: Toolbox) -> None:
    for box in (toolbox, Toolbox.load("lite"), Toolbox.load("lite").subset(["unet.dehaze"])):
        example = build_system_prompt(box).rpartition("\n")[2]
        decision = make_grammar(box).parse(example)
        assert decision.error is None and decision.plan and decision.degradations and decision.reasoning


def test_a_toolbox_without_matched_tools_has_an_example() -> None:
    box = Toolbox().add("own.invert", lambda image: 1 - image)
    decision = make_grammar(box).parse(build_system_prompt(box).rpartition("\n")[2])
    assert decision.error is None and decision.plan == ()


def test_max_tools_is_in_the_prompt(toolbox: Toolbox) -> None:
    assert "at most 3 tools" in build_system_prompt(toolbox, 3)


def test_messages_have_a_placeholder_for_the_image() -> None:
    system, user = build_messages("Restore.")
    assert system["content"] == [{"type": "text", "text": "Restore."}]
    assert user["content"][0] == {"type": "image"}  # type: ignore[index]
    assert build_messages("Restore.", "picture")[1]["content"][0]["image"] == "picture"  # type: ignore[index]
