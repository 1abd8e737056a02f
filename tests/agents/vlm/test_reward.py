"""What answers earn: scored together, remembered, and never silently nothing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from opera_agents.vlm.judge import RulesJudge
from opera_agents.vlm.prompt import make_grammar
from opera_agents.vlm.reward import PARTS, AnswerScorer, completion_text
from opera_env.data import Source
from opera_env.errors import ToolFailedError
from opera_env.reward import f1_score
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Decision, Sample


def _rewards(source: Source, toolbox: Toolbox, judged: bool = True, **settings: object) -> AnswerScorer:
    judge = RulesJudge(toolbox) if judged else None
    scorer = PlanScorer(toolbox, "classic")
    return AnswerScorer(source.make, scorer, make_grammar(toolbox), judge, **settings)  # type: ignore[arg-type]


def _answers(toolbox: Toolbox, samples: Sequence[Sample]) -> list[str]:
    """Right, half right, inconsistent and unreadable."""
    grammar, sample = make_grammar(toolbox), samples[0]
    right = sample.degradations or frozenset()
    reason = f"There is {' and '.join(sorted(right))}."
    return [
        grammar.format(Decision(("tiny.blur",), right, reason)),
        grammar.format(Decision(("tiny.blur",), right | {"haze"}, f"{reason} And haze.")),
        grammar.format(Decision(("tiny.blur", "tiny.enlarge"), right, reason)),
        "I would blur it.",
    ]


def test_each_part_and_their_product(source: Source, toolbox: Toolbox, samples: list[Sample]) -> None:
    rewards = _rewards(source, toolbox)
    texts = _answers(toolbox, samples)
    right, half, loose, unread = rewards.earned(texts, [samples[0].spec] * 4)
    direct = PlanScorer(toolbox, "classic").score(samples[:1], [("tiny.blur",)])[0].r_q
    assert right.r_q == pytest.approx(direct) and right.total == pytest.approx(direct)
    labels = samples[0].degradations or frozenset()
    assert half.r_d == f1_score(labels | {"haze"}, labels) and half.total == pytest.approx(
        direct * half.r_d
    )
    assert loose.r_c == 0 and loose.total == 0 and loose.r_q > 0
    assert (unread.r_q, unread.r_d, unread.r_f, unread.r_c, unread.total) == (0, 0, 0, 0, 0)
    assert unread.decision.error is not None


def test_without_a_judge_r_c_is_absent(source: Source, toolbox: Toolbox, samples: list[Sample]) -> None:
    rewards = _rewards(source, toolbox, judged=False)
    found = rewards.earned(_answers(toolbox, samples), [samples[0].spec] * 4)
    assert all(one.r_c == 1 for one in found)
    assert found[2].total == pytest.approx(found[2].r_q)


def test_the_gated_form_and_the_cost(source: Source, toolbox: Toolbox, samples: list[Sample]) -> None:
    rewards = _rewards(source, toolbox, form="gated", tool_cost=0.5)
    right, half, *_ = rewards.earned(_answers(toolbox, samples), [samples[0].spec] * 4)
    direct = PlanScorer(toolbox, "classic").score(samples[:1], [("tiny.blur",)])[0].r_q
    assert right.r_q == pytest.approx(direct - 0.5) and right.total == pytest.approx(1 + direct - 0.5)
    assert half.total < 1


def test_trls_functions_share_one_scoring(source: Source, toolbox: Toolbox, samples: list[Sample]) -> None:
    rewards = _rewards(source, toolbox)
    texts = _answers(toolbox, samples)
    conversations = [[{"role": "assistant", "content": text}] for text in texts]
    columns = {"spec": [samples[0].spec.to_json()] * 4, "prompts": texts, "trainer_state": None}
    found = {}
    for function in rewards.functions():
        found[function.__name__] = function(completions=conversations, **columns)
    assert tuple(found) == PARTS
    assert rewards.scorer.images_scored == 2, "two different plans, once each"
    assert found["total"] == [one.total for one in rewards.earned(texts, [samples[0].spec] * 4)]
    rewards.functions()[0](completions=texts[:1], spec=[samples[0].spec.to_json()])
    assert rewards.scorer.images_scored == 3, "another batch is scored"


def test_a_tool_that_fails_is_no_reward_of_nothing(
    source: Source, toolbox: Toolbox, samples: list[Sample]
) -> None:
    toolbox.add("tiny.broken", lambda image: image[..., 1:])
    rewards = _rewards(source, toolbox)
    text = make_grammar(toolbox).format(Decision(("tiny.broken",), frozenset(), "tiny.broken"))
    with pytest.raises(ToolFailedError):
        rewards.earned([text], [samples[0].spec])


def test_the_text_of_a_conversation_in_parts() -> None:
    parts = [{"type": "text", "text": "H"}, {"type": "text", "text": "m."}]
    assert completion_text([{"role": "assistant", "content": parts}]) == "Hm."
