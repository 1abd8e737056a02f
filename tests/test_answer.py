"""AnswerGrammar: formatting and parsing the answers of language models, and the errors of parsing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opera_env.answer import MAX_ANSWER_LENGTH, AnswerGrammar
from opera_env.errors import PlanParseError
from opera_env.types import Decision

NAMES = ("noise.net", "haze.net", "enlarge-x4", "brighten_1")
plans = st.lists(st.sampled_from(NAMES), max_size=4).map(tuple)

DEGRADATIONS = ("noise", "haze", "low_light")
GRAMMAR = AnswerGrammar(NAMES, DEGRADATIONS, max_tools=4)
reasonings = st.text().filter(lambda text: "<" not in text and text == text.strip())
decisions = st.builds(Decision, plans, st.frozensets(st.sampled_from(DEGRADATIONS)), reasonings)

GOOD = "<think>Grainy.</think><degradation>['noise']</degradation><answer>['noise.net']</answer>"


@given(decisions)
def test_format_and_parse_are_inverse(decision: Decision) -> None:
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
def test_whitespace_and_both_quotes_are_allowed(text: str) -> None:
    assert GRAMMAR.parse(text) == Decision(("noise.net",), frozenset({"noise"}), "Grainy.")


def test_an_empty_plan_is_an_answer() -> None:
    decision = GRAMMAR.parse("<think></think><degradation>[]</degradation><answer>[]</answer>")
    assert decision == Decision((), frozenset(), "")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected <think> at the beginning, found ''"),
        ("I would denoise it.", "expected <think>"),
        (f"Sure! {GOOD}", "expected <think>"),
        (f"{GOOD} Done.", "nothing after </answer>"),
        (GOOD + GOOD, "nothing after </answer>"),
        (GOOD.replace("</think>", ""), "expected </think> after <think>"),
        (GOOD.replace("</answer>", ""), "expected </answer> after <answer>"),
        (GOOD.replace("Grainy.", "<answer>[]</answer>"), "expected text in <think>, found another tag"),
        (GOOD.replace("<degradation>['noise']</degradation>", ""), "expected <degradation> after </think>"),
        ("<degradation>[]</degradation><think></think><answer>[]</answer>", "expected <think>"),
        (GOOD.replace("['noise.net']", "noise.net"), "expected a list in square brackets"),
        (GOOD.replace("['noise.net']", "["), "expected a list in square brackets"),
        (GOOD.replace("['noise.net']", "[noise.net]"), "expected names in quotes, found 'noise.net'"),
        (GOOD.replace("['noise.net']", "['noise.net\"]"), "expected names in quotes"),
        (GOOD.replace("['noise.net']", "['noise.net',]"), "expected names in quotes, found ''"),
        (GOOD.replace("noise.net", "rm.rf"), "unknown tool 'rm.rf'; expected one of noise.net, haze.net"),
        (GOOD.replace("'noise']", "'dust']"), "unknown degradation 'dust'"),
        (GOOD.replace("'noise']", "'noise', 'noise']"), "a degradation is named twice"),
        (GOOD.replace("['noise.net']", str(["noise.net"] * 5)), "expected at most 4 tools, found 5"),
        (GOOD.replace("Grainy.", "x" * MAX_ANSWER_LENGTH), "expected at most 20,000 characters"),
        (GOOD.replace("['noise.net']", "__import__('os').getcwd()"), "expected a list"),
    ],
)
def test_errors_name_what_is_wrong(text: str, reason: str) -> None:
    decision = GRAMMAR.parse(text)
    assert isinstance(decision.error, PlanParseError) and reason in str(decision.error)
    assert decision.plan == () and decision.degradations is None
    assert decision.reasoning in (None, "Grainy.")


_PIECES = (
    *(f"<{mark}{tag}>" for tag in ("think", "degradation", "answer") for mark in ("", "/")),
    *("[", "]", "'", '"', ",", "'noise'", "['noise.net']", "[]", "Hm.", " ", "\n", "<", "\x00"),
)
pieces = st.lists(st.sampled_from(_PIECES) | st.text(max_size=8), max_size=16).map("".join)


def _fuzz(text: str) -> None:
    decision = GRAMMAR.parse(text)
    if decision.error is None:
        assert GRAMMAR.parse(GRAMMAR.format(decision)) == decision
        assert set(decision.plan) <= set(NAMES) and len(decision.plan) <= 4
    else:
        assert decision.plan == () and str(decision.error)


@given(pieces)
@settings(max_examples=500, deadline=1000)
def test_parse_never_raises(text: str) -> None:
    _fuzz(text)


@pytest.mark.slow
@given(pieces | st.text())
@settings(max_examples=10_000, deadline=1000)
def test_parse_never_raises_on_ten_thousand_texts(text: str) -> None:
    _fuzz(text)


@pytest.mark.parametrize("piece", ["<think>", "[" * 50, "'," * 50, "<think>" * 20 + "</think>" * 20])
def test_long_texts_are_parsed_quickly(piece: str) -> None:
    GRAMMAR.parse((piece * MAX_ANSWER_LENGTH)[:MAX_ANSWER_LENGTH])
