"""Why a plan was chosen, in arguments."""

from __future__ import annotations

import pytest

from opera_env.restoration.explanation import describe_degradations, explain_plan, format_probabilities
from opera_env.types import Decision, Plan

LOW = {"noise": 0.12, "haze": 0.06, "rain": 0.01}
NONE_PRESENT = "no degradation has a probability above 0.5"


@pytest.mark.parametrize(
    ("decision", "scores", "expected"),
    [
        (Decision((), probabilities=LOW), {}, NONE_PRESENT),
        (
            Decision((), probabilities={"noise": 0.8}),
            {},
            "the agent wrote the empty plan, although it sees noise",
        ),
        (
            Decision((), probabilities={"noise": 0.8}),
            {(): 7.1, ("unet.denoise",): 6.9, ("a", "b"): 6.0},
            "the critic prefers the photograph as it is: 7.10 against 6.90 for unet.denoise",
        ),
        (
            Decision(()),
            {(): 7.0, ("unet.denoise",): 7.05},
            "the critic prefers the photograph as it is: 7.00 against 7.05 for unet.denoise, which does "
            "not outweigh the tool cost of 0.1 for each tool",
        ),
        (
            Decision((), probabilities=LOW),
            {(): 7.0},
            "no degradation has a probability above 0.5",
        ),
        (Decision((), frozenset()), {}, "the agent sees no degradation"),
        (Decision(()), {}, "the agent wrote the empty plan and gives no reason"),
        (
            Decision(("a",)),
            {(): 5.0, ("a",): 7.254},
            "the critic scores the result 7.25 and the unchanged photograph 5.00 (1 plan tried)",
        ),
        (
            Decision(("a",)),
            {(): 9.634, ("a",): 9.49, ("b",): 9.0},
            "restored as requested, although the critic prefers the photograph as it is: 9.63 against 9.49 "
            "(2 plans tried)",
        ),
        (
            Decision(("a",), probabilities={"haze": 0.6, "noise": 0.9, "rain": 0.1}),
            {},
            "the agent sees noise, haze and wrote this plan; no result was scored",
        ),
        (
            Decision(("a",), frozenset({"noise"}), "it is grainy"),
            {},
            "the agent sees noise and wrote this plan; no result was scored",
        ),
        (
            Decision(("a",), probabilities=LOW),
            {},
            "the agent wrote this plan, although it sees no degradation; no result was scored",
        ),
        (Decision(("a",), reasoning="it is grainy"), {}, None),
        (Decision(("a",)), {}, "the agent wrote this plan and gives no reason; no result was scored"),
    ],
)
def test_reasons(decision: Decision, scores: dict[Plan, float], expected: str | None) -> None:
    assert explain_plan(decision, scores, tool_cost=0.1) == expected


@pytest.mark.parametrize(
    ("decision", "expected"),
    [
        (Decision((), frozenset({"noise"}), probabilities={"noise": 0.914}), "noise 0.91"),
        (Decision((), frozenset({"noise", "haze"})), "haze, noise"),
        (Decision((), frozenset()), "no degradation"),
        (Decision(()), "this agent does not tell which degradations it sees"),
    ],
)
def test_description_of_the_observed_degradations(decision: Decision, expected: str) -> None:
    assert describe_degradations(decision) == expected


def test_improbable_degradations_are_left_out_but_three_always_stay() -> None:
    probabilities = {"a": 0.9, "b": 0.5, "c": 0.06, "d": 0.05, "e": 0.01}
    assert format_probabilities(probabilities) == "a 0.90, b 0.50, c 0.06, d 0.05"
    assert format_probabilities({"a": 0.01, "b": 0.02, "c": 0.0, "d": 0.0}) == "b 0.02, a 0.01, c 0.00"
