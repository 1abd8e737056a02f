"""Plans as arrays and as text: what is a plan comes through, what is none is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from opera_env.answer import MAX_ANSWER_LENGTH, AnswerGrammar
from opera_env.errors import PlanParseError, UnknownToolError
from opera_env.plan import STOP, PlanCodec, parse_plan
from opera_env.types import Decision

NAMES = ("noise.net", "haze.net", "enlarge-x4", "brighten_1")
CODEC = PlanCodec(NAMES, max_tools=4)

plans = st.lists(st.sampled_from(NAMES), max_size=CODEC.max_tools).map(tuple)
dtypes = arrays.integer_dtypes() | arrays.unsigned_integer_dtypes() | arrays.floating_dtypes()
anything = arrays.arrays(
    dtype=dtypes | arrays.boolean_dtypes() | arrays.unicode_string_dtypes(max_len=3),
    shape=arrays.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=6),
)


@given(plans)
def test_round_trip(plan: tuple[str, ...]) -> None:
    action = CODEC.encode(plan)
    assert action.dtype == np.int64 and action.shape == (4,)
    assert CODEC.decode(action) == plan


@given(anything)
def test_an_array_is_a_plan_or_an_error(action: np.ndarray[Any, Any]) -> None:
    valid = (
        action.shape == (4,)
        and np.issubdtype(action.dtype, np.integer)
        and bool(((action >= 0) & (action <= len(NAMES))).all())
    )
    if valid:
        plan = CODEC.decode(action)
        stop = next((index for index, value in enumerate(action) if value == STOP), 4)
        assert [NAMES.index(name) + 1 for name in plan] == action[:stop].tolist()
    else:
        with pytest.raises(PlanParseError):
            CODEC.decode(action)


@given(
    arrays.arrays(
        st.sampled_from([np.int8, np.uint8, np.int64, np.uint64]), 4, elements=st.integers(0, len(NAMES))
    )
)
def test_every_action_of_the_space_is_a_plan(action: np.ndarray[Any, Any]) -> None:
    again = CODEC.encode(CODEC.decode(action))
    assert CODEC.decode(again) == CODEC.decode(action)
    assert set(CODEC.decode(action)) <= set(NAMES)


@pytest.mark.parametrize(
    ("action", "plan"),
    [
        ([0, 0, 0, 0], ()),
        ([0, 1, 2, 3], ()),
        ([2, 0, 1, 1], ("haze.net",)),
        ([4, 4, 4, 4], ("brighten_1",) * 4),
    ],
)
def test_what_follows_the_first_stop_is_ignored(action: list[int], plan: tuple[str, ...]) -> None:
    assert CODEC.decode(action) == plan


@pytest.mark.parametrize(
    "action",
    [
        [1, 2, 3],
        [1, 2, 3, 4, 0],
        [[1, 2, 3, 4]],
        [1, 2, 3, 5],
        [1, -1, 0, 0],
        [0, 0, 0, 9],
        [1.0, 0.0, 0.0, 0.0],
        [float("nan")] * 4,
        [True, False, False, False],
        ["noise.net", "", "", ""],
        [2**70, 0, 0, 0],
        [[1, 2], [3]],
        1,
        None,
        "noise.net",
    ],
    ids=repr,
)
def test_no_plan(action: Any) -> None:
    with pytest.raises(PlanParseError):
        CODEC.decode(action)


@given(
    st.integers(0, len(NAMES)),
    st.sampled_from([int, np.int64, np.uint8, np.array, lambda n: np.array([n])]),
)
def test_one_number_is_one_tool_or_none(number: int, kind: Any) -> None:
    expected = () if number == STOP else (NAMES[number - 1],)
    assert CODEC.decode_tool(kind(number)) == expected


@given(anything)
def test_an_array_is_one_tool_or_an_error(action: np.ndarray[Any, Any]) -> None:
    valid = action.size == 1 and np.issubdtype(action.dtype, np.integer)
    if valid and 0 <= int(action.reshape(-1)[0]) <= len(NAMES):
        assert len(CODEC.decode_tool(action)) <= 1
    else:
        with pytest.raises(PlanParseError):
            CODEC.decode_tool(action)


@pytest.mark.parametrize("action", [-1, 5, 1.0, True, None, [1, 2], [], "1"], ids=repr)
def test_no_single_action(action: Any) -> None:
    with pytest.raises(PlanParseError):
        CODEC.decode_tool(action)


def test_encode_refuses_what_it_cannot_write() -> None:
    with pytest.raises(PlanParseError, match="5 tools"):
        CODEC.encode(NAMES[:1] * 5)
    with pytest.raises(UnknownToolError, match=r"'nobody'.*noise\.net"):
        CODEC.encode(("nobody",))


def test_an_error_says_what_was_expected() -> None:
    with pytest.raises(PlanParseError, match=r"shape \(4,\), found \(2,\)"):
        CODEC.decode([1, 2])
    with pytest.raises(PlanParseError, match=r"from 0 to 4, found .*7"):
        CODEC.decode([1, 2, 7, 0])


@given(plans, st.sampled_from([",", ", ", " , ", ",\n"]))
def test_names_round_trip(plan: tuple[str, ...], comma: str) -> None:
    assert parse_plan(comma.join(plan), NAMES) == plan


@given(st.lists(st.sampled_from([*NAMES, ",", " ", "x", "\n"]), max_size=12).map("".join))
def test_a_text_is_known_names_or_an_error(text: str) -> None:
    try:
        plan = parse_plan(text, iter(NAMES))
    except (PlanParseError, UnknownToolError):
        return
    assert set(plan) <= set(NAMES)
    assert plan == tuple(word.strip() for word in text.split(",") if word.strip())


@pytest.mark.parametrize("text", ["", "  ", "\n"], ids=repr)
def test_no_text_is_the_empty_plan(text: str) -> None:
    assert parse_plan(text, NAMES) == ()


@pytest.mark.parametrize("text", [",", "noise.net,", ",noise.net", "noise.net,,haze.net"])
def test_nothing_between_commas(text: str) -> None:
    with pytest.raises(PlanParseError, match="between two commas"):
        parse_plan(text, NAMES)


def test_unknown_name() -> None:
    with pytest.raises(UnknownToolError) as raised:
        parse_plan("noise.net, Haze.net", NAMES)
    assert raised.value.name == "Haze.net"


WRONG = ("noise", "haze", "low_light")
GRAMMAR = AnswerGrammar(NAMES, WRONG, max_tools=4)
reasonings = st.text().filter(lambda text: "<" not in text and text == text.strip())
decisions = st.builds(Decision, plans, st.frozensets(st.sampled_from(WRONG)), reasonings)

GOOD = "<think>Grainy.</think><degradation>['noise']</degradation><answer>['noise.net']</answer>"


@given(decisions)
def test_an_answer_says_what_was_decided(decision: Decision) -> None:
    assert GRAMMAR.parse(GRAMMAR.format(decision)) == decision


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"\n  {GOOD}\n",
        GOOD.replace("><", ">\n\n<"),
        GOOD.replace("'", '"'),
        GOOD.replace("['noise']", "[ 'noise' ]"),
        GOOD.replace("Grainy.", "  Grainy.  "),
    ],
)
def test_blanks_and_either_quotes_are_read(text: str) -> None:
    assert GRAMMAR.parse(text) == Decision(("noise.net",), frozenset({"noise"}), "Grainy.")


def test_nothing_to_do_is_an_answer() -> None:
    said = GRAMMAR.parse("<think></think><degradation>[]</degradation><answer>[]</answer>")
    assert said == Decision((), frozenset(), "")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected <think> at the beginning, found ''"),
        ("I would denoise it.", "expected <think>"),
        (f"Sure! {GOOD}", "expected <think>"),
        (f"{GOOD} Done.", "nothing after </answer>"),
        (GOOD + GOOD, "nothing after </answer>"),
        (GOOD.replace("</think>", ""), "<think> is never closed"),
        (GOOD.replace("</answer>", ""), "<answer> is never closed"),
        (GOOD.replace("Grainy.", "<answer>[]</answer>"), "another tag inside of <think>"),
        (GOOD.replace("<degradation>['noise']</degradation>", ""), "expected <degradation> after </think>"),
        ("<degradation>[]</degradation><think></think><answer>[]</answer>", "expected <think>"),
        (GOOD.replace("['noise.net']", "noise.net"), "expected a list in square brackets"),
        (GOOD.replace("['noise.net']", "["), "expected a list in square brackets"),
        (GOOD.replace("['noise.net']", "[noise.net]"), "expected names in quotes, found 'noise.net'"),
        (GOOD.replace("['noise.net']", "['noise.net\"]"), "expected names in quotes"),
        (GOOD.replace("['noise.net']", "['noise.net',]"), "expected names in quotes, found ''"),
        (GOOD.replace("noise.net", "rm.rf"), "unknown tool 'rm.rf'; known are noise.net, haze.net"),
        (GOOD.replace("'noise']", "'dust']"), "unknown degradation 'dust'"),
        (GOOD.replace("'noise']", "'noise', 'noise']"), "a degradation is named twice"),
        (GOOD.replace("['noise.net']", str(["noise.net"] * 5)), "a plan of 5 tools; at most 4"),
        (GOOD.replace("Grainy.", "x" * MAX_ANSWER_LENGTH), "20,000 are read"),
        (GOOD.replace("['noise.net']", "__import__('os').getcwd()"), "expected a list"),
    ],
)
def test_what_is_wrong_with_an_answer_is_said(text: str, reason: str) -> None:
    said = GRAMMAR.parse(text)
    assert isinstance(said.error, PlanParseError) and reason in str(said.error)
    assert said.plan == () and said.degradations is None
    assert said.reasoning in (None, "Grainy.")


_PIECES = (
    *(f"<{mark}{tag}>" for tag in ("think", "degradation", "answer") for mark in ("", "/")),
    *("[", "]", "'", '"', ",", "'noise'", "['noise.net']", "[]", "Hm.", " ", "\n", "<", "\x00"),
)
pieces = st.lists(st.sampled_from(_PIECES) | st.text(max_size=8), max_size=16).map("".join)


def _fuzz(text: str) -> None:
    said = GRAMMAR.parse(text)
    if said.error is None:
        assert GRAMMAR.parse(GRAMMAR.format(said)) == said
        assert set(said.plan) <= set(NAMES) and len(said.plan) <= 4
    else:
        assert said.plan == () and str(said.error)


@given(pieces)
@settings(max_examples=500, deadline=1000)
def test_no_text_crashes_the_grammar(text: str) -> None:
    _fuzz(text)


@pytest.mark.slow
@given(pieces | st.text())
@settings(max_examples=10_000, deadline=1000)
def test_ten_thousand_texts_do_not_crash_the_grammar(text: str) -> None:
    _fuzz(text)


@pytest.mark.parametrize("piece", ["<think>", "[" * 50, "'," * 50, "<think>" * 20 + "</think>" * 20])
def test_long_texts_are_read_at_once(piece: str) -> None:
    GRAMMAR.parse((piece * MAX_ANSWER_LENGTH)[:MAX_ANSWER_LENGTH])
