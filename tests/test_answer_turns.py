"""TurnGrammar: formatting and parsing answers that are given turn by turn."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opera_env.answer import MAX_ANSWER_LENGTH, TurnGrammar
from opera_env.errors import PlanParseError
from opera_env.types import Decision
from tests.test_answer import DEGRADATIONS, GOOD, GRAMMAR, NAMES, reasonings

TURNS = TurnGrammar(NAMES, DEGRADATIONS, max_tools=4)
labels = st.none() | st.frozensets(st.sampled_from(DEGRADATIONS))
plans = st.lists(st.sampled_from(NAMES), max_size=4).map(tuple)


@st.composite
def decisions(draw: st.DrawFn) -> Decision:
    plan, undo, finish = draw(plans), draw(st.integers(0, 3)), draw(st.booleans())
    finish = finish or (not plan and not undo)
    return Decision(plan, draw(labels), draw(reasonings), undo=undo, finish=finish)


@given(decisions())
def test_format_and_parse_are_inverse(decision: Decision) -> None:
    assert TURNS.parse_turn(TURNS.format_turn(decision), 3, 4) == decision


def test_an_answer_of_one_shot_is_an_answer_of_turns_too() -> None:
    one_shot, turn = GRAMMAR.parse(GOOD), TURNS.parse_turn(GOOD, 0, 4)
    assert (turn.plan, turn.degradations, turn.finish) == (one_shot.plan, one_shot.degradations, True)
    assert TURNS.parse(GOOD) == one_shot, "one-shot answers are parsed as before"


@pytest.mark.parametrize(
    ("text", "plan", "undo", "finish"),
    [
        ("<apply>['noise.net', 'haze.net']</apply>", ("noise.net", "haze.net"), 0, False),
        ("<undo>2</undo>", (), 2, False),
        (" <undo> 1 </undo>\n<apply>['haze.net']</apply>", ("haze.net",), 1, False),
        ("<undo>1</undo><answer>['haze.net']</answer>", ("haze.net",), 1, True),
        ("<degradation>['noise']</degradation><answer>[]</answer>", (), 0, True),
    ],
)
def test_actions(text: str, plan: tuple[str, ...], undo: int, finish: bool) -> None:
    decision = TURNS.parse_turn(f"<think>Hm.</think>{text}", 2, 2)
    assert (decision.error, decision.reasoning) == (None, "Hm.")
    assert (decision.plan, decision.undo, decision.finish) == (plan, undo, finish)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected <think> at the beginning"),
        ("<think>Hm.</think>", "expected <apply> or <undo> or <answer> after the reasoning, found ''"),
        ("<think>Hm.</think><apply>[]</apply>", "expected tools in <apply>, found none"),
        ("<think>Hm.</think><apply>['x']</apply>", "unknown tool 'x'"),
        ("<think>Hm.</think><apply>['noise.net']</apply><undo>1</undo>", "nothing after the action"),
        ("<think>Hm.</think><undo>3</undo>", "expected a number from 1 to 2, found '3'"),
        ("<think>Hm.</think><undo>0</undo>", "expected a number from 1 to 2, found '0'"),
        ("<think>Hm.</think><undo>²</undo>", "expected a number from 1 to 2"),
        ("<think>Hm.</think><undo>1</undo>and", "expected <apply> after <undo>, found 'and'"),
        (f"<think>Hm.</think><apply>{['noise.net'] * 3}</apply>", "expected at most 2 more tools, found 3"),
        ("<think><apply></think><answer>[]</answer>", "expected text in <think>, found another tag"),
        ("<think>" * MAX_ANSWER_LENGTH, "expected at most"),
        (
            "<think>Hm.</think><degradation>['noise', 'noise']</degradation><answer>[]</answer>",
            "a degradation is named twice",
        ),
    ],
)
def test_errors_say_what_was_expected(text: str, reason: str) -> None:
    decision = TURNS.parse_turn(text, 2, 2)
    assert isinstance(decision.error, PlanParseError) and reason in str(decision.error)
    assert (decision.plan, decision.undo) == ((), 0)


def test_nothing_can_be_taken_back_at_the_start() -> None:
    assert "no tool was applied" in str(TURNS.parse_turn("<think></think><undo>1</undo>", 0, 4).error)


@settings(max_examples=300)
@given(
    st.lists(
        st.sampled_from(
            ["<think>", "</think>", "<undo>", "</undo>", "<apply>", "</apply>", "<answer>", "</answer>"]
        )
        | st.sampled_from(["['noise.net']", "1", "[", "<degradation>[]</degradation>", " "])
        | st.text(max_size=5)
    ).map("".join)
)
def test_parse_never_raises(text: str) -> None:
    decision = TURNS.parse_turn(text, 2, 2)
    assert decision.error is not None or TURNS.parse_turn(TURNS.format_turn(decision), 2, 2) == decision
