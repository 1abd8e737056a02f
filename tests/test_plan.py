"""PlanCodec and parse_plan: plans as arrays and as text, and the errors for everything else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from opera_env.errors import PlanParseError, UnknownToolError
from opera_env.plan import STOP, PlanCodec, parse_plan

NAMES = ("noise.net", "haze.net", "enlarge-x4", "brighten_1")
CODEC = PlanCodec(NAMES, max_tools=4)

plans = st.lists(st.sampled_from(NAMES), max_size=CODEC.max_tools).map(tuple)
dtypes = arrays.integer_dtypes() | arrays.unsigned_integer_dtypes() | arrays.floating_dtypes()
arrays_of_any_kind = arrays.arrays(
    dtype=dtypes | arrays.boolean_dtypes() | arrays.unicode_string_dtypes(max_len=3),
    shape=arrays.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=6),
)


@given(plans)
def test_encode_and_decode_are_inverse(plan: tuple[str, ...]) -> None:
    action = CODEC.encode(plan)
    assert action.dtype == np.int64 and action.shape == (4,)
    assert CODEC.decode(action) == plan


@given(arrays_of_any_kind)
def test_any_array_is_a_plan_or_an_error(action: np.ndarray[Any, Any]) -> None:
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
def test_entries_after_the_first_stop_are_ignored(action: list[int], plan: tuple[str, ...]) -> None:
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
def test_invalid_actions_raise(action: Any) -> None:
    with pytest.raises(PlanParseError):
        CODEC.decode(action)


@given(
    st.integers(0, len(NAMES)),
    st.sampled_from([int, np.int64, np.uint8, np.array, lambda n: np.array([n])]),
)
def test_a_stepwise_action_is_one_tool_or_stop(number: int, kind: Any) -> None:
    expected = () if number == STOP else (NAMES[number - 1],)
    assert CODEC.decode_tool(kind(number)) == expected


@given(arrays_of_any_kind)
def test_any_array_is_a_stepwise_action_or_an_error(action: np.ndarray[Any, Any]) -> None:
    valid = action.size == 1 and np.issubdtype(action.dtype, np.integer)
    if valid and 0 <= int(action.reshape(-1)[0]) <= len(NAMES):
        assert len(CODEC.decode_tool(action)) <= 1
    else:
        with pytest.raises(PlanParseError):
            CODEC.decode_tool(action)


@pytest.mark.parametrize("action", [-1, 5, 1.0, True, None, [1, 2], [], "1"], ids=repr)
def test_invalid_stepwise_actions_raise(action: Any) -> None:
    with pytest.raises(PlanParseError):
        CODEC.decode_tool(action)


def test_encode_raises_for_long_plans_and_unknown_tools() -> None:
    with pytest.raises(PlanParseError, match="at most 4 tools, found 5"):
        CODEC.encode(NAMES[:1] * 5)
    with pytest.raises(UnknownToolError, match=r"'nobody'.*noise\.net"):
        CODEC.encode(("nobody",))


def test_errors_name_expected_and_found() -> None:
    with pytest.raises(PlanParseError, match=r"shape \(4,\), found \(2,\)"):
        CODEC.decode([1, 2])
    with pytest.raises(PlanParseError, match=r"from 0 to 4, found .*7"):
        CODEC.decode([1, 2, 7, 0])


@given(plans, st.sampled_from([",", ", ", " , ", ",\n"]))
def test_joined_names_are_parsed(plan: tuple[str, ...], comma: str) -> None:
    assert parse_plan(comma.join(plan), NAMES) == plan


@given(st.lists(st.sampled_from([*NAMES, ",", " ", "x", "\n"]), max_size=12).map("".join))
def test_any_text_is_a_plan_or_an_error(text: str) -> None:
    try:
        plan = parse_plan(text, iter(NAMES))
    except (PlanParseError, UnknownToolError):
        return
    assert set(plan) <= set(NAMES)
    assert plan == tuple(word.strip() for word in text.split(",") if word.strip())


@pytest.mark.parametrize("text", ["", "  ", "\n"], ids=repr)
def test_empty_text_is_the_empty_plan(text: str) -> None:
    assert parse_plan(text, NAMES) == ()


@pytest.mark.parametrize("text", [",", "noise.net,", ",noise.net", "noise.net,,haze.net"])
def test_a_missing_name_between_commas_raises(text: str) -> None:
    with pytest.raises(PlanParseError, match="between two commas"):
        parse_plan(text, NAMES)


def test_an_unknown_name_raises() -> None:
    with pytest.raises(UnknownToolError) as raised:
        parse_plan("noise.net, Haze.net", NAMES)
    assert raised.value.name == "Haze.net"
