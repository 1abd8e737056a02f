"""``AnswerScorer``: the rewards of answers, one scoring for all reward functions, errors of tools."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from opera_agents.vlm.judge import RulesJudge
from opera_agents.vlm.prompt import make_grammar
from opera_agents.vlm.reward import REWARD_NAMES, AnswerScorer, completion_text
from opera_env.data import Source
from opera_env.errors import ToolFailedError
from opera_env.reward import f1_score
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Decision, Sample


def _make_scorer(
    source: Source, toolbox: Toolbox, with_judge: bool = True, **settings: object
) -> AnswerScorer:
    judge = RulesJudge(toolbox) if with_judge else None
    scorer = PlanScorer(toolbox, "classic")
    return AnswerScorer(source.make, scorer, make_grammar(toolbox), judge, **settings)  # type: ignore[arg-type]


def _answers(toolbox: Toolbox, samples: Sequence[Sample]) -> list[str]:
    """Returns a right answer, one with a wrong label, an inconsistent one and one that cannot be parsed."""
    grammar, sample = make_grammar(toolbox), samples[0]
    right = sample.degradations or frozenset()
    reason = f"There is {' and '.join(sorted(right))}."
    return [
        grammar.format(Decision(("tiny.blur",), right, reason)),
        grammar.format(Decision(("tiny.blur",), right | {"haze"}, f"{reason} And haze.")),
        grammar.format(Decision(("tiny.blur", "tiny.enlarge"), right, reason)),
        "I would blur it.",
    ]


def test_each_reward_and_their_product(source: Source, toolbox: Toolbox, samples: list[Sample]) -> None:
    answer_scorer = _make_scorer(source, toolbox)
    texts = _answers(toolbox, samples)
    right, half, inconsistent, unparsed = answer_scorer.score(texts, [samples[0].spec] * 4)
    direct = PlanScorer(toolbox, "classic").score(samples[:1], [("tiny.blur",)])[0].r_q
    assert right.r_q == pytest.approx(direct) and right.total == pytest.approx(direct)
    labels = samples[0].degradations or frozenset()
    assert half.r_d == f1_score(labels | {"haze"}, labels) and half.total == pytest.approx(
        direct * half.r_d
    )
    assert inconsistent.r_c == 0 and inconsistent.total == 0 and inconsistent.r_q > 0
    assert (unparsed.r_q, unparsed.r_d, unparsed.r_f, unparsed.r_c, unparsed.total) == (0, 0, 0, 0, 0)
    assert unparsed.decision.error is not None


def test_without_a_judge_r_c_is_1(source: Source, toolbox: Toolbox, samples: list[Sample]) -> None:
    answer_scorer = _make_scorer(source, toolbox, with_judge=False)
    scores = answer_scorer.score(_answers(toolbox, samples), [samples[0].spec] * 4)
    assert all(answer_score.r_c == 1 for answer_score in scores)
    assert scores[2].total == pytest.approx(scores[2].r_q)


def test_gated_form_and_tool_cost(source: Source, toolbox: Toolbox, samples: list[Sample]) -> None:
    answer_scorer = _make_scorer(source, toolbox, reward_form="gated", tool_cost=0.5)
    right, half, *_ = answer_scorer.score(_answers(toolbox, samples), [samples[0].spec] * 4)
    direct = PlanScorer(toolbox, "classic").score(samples[:1], [("tiny.blur",)])[0].r_q
    assert right.r_q == pytest.approx(direct - 0.5) and right.total == pytest.approx(1 + direct - 0.5)
    assert half.total < 1


def test_reward_functions_share_one_scoring(
    source: Source, toolbox: Toolbox, samples: list[Sample]
) -> None:
    answer_scorer = _make_scorer(source, toolbox)
    texts = _answers(toolbox, samples)
    completions = [[{"role": "assistant", "content": text}] for text in texts]
    columns = {"spec": [samples[0].spec.to_json()] * 4, "prompts": texts, "trainer_state": None}
    rewards = {}
    for function in answer_scorer.reward_functions():
        rewards[function.__name__] = function(completions=completions, **columns)
    assert tuple(rewards) == REWARD_NAMES
    assert answer_scorer.scorer.images_scored == 2, "two different plans, scored once each"
    assert rewards["total"] == [
        answer_score.total for answer_score in answer_scorer.score(texts, [samples[0].spec] * 4)
    ]
    answer_scorer.reward_functions()[0](completions=texts[:1], spec=[samples[0].spec.to_json()])
    assert answer_scorer.scorer.images_scored == 3, "another batch is scored"


def test_a_failing_tool_raises(source: Source, toolbox: Toolbox, samples: list[Sample]) -> None:
    toolbox.add("tiny.broken", lambda image: image[..., 1:])
    answer_scorer = _make_scorer(source, toolbox)
    text = make_grammar(toolbox).format(Decision(("tiny.broken",), frozenset(), "tiny.broken"))
    with pytest.raises(ToolFailedError):
        answer_scorer.score([text], [samples[0].spec])


def test_the_text_of_a_message_in_parts() -> None:
    parts = [{"type": "text", "text": "H"}, {"type": "text", "text": "m."}]
    assert completion_text([{"role": "assistant", "content": parts}]) == "Hm."
