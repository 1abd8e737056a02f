"""The environments for verifiers and OpenEnv, over a scoring server; each needs its package."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from opera_env.serving.client import ScoringClient

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


class Player:
    """Plays with given answers, as an agent of verifiers does with those of a model."""

    def __init__(self, *answers: str) -> None:
        self.answers, self.messages = list(answers), list[Any]()
        self.trace = SimpleNamespace(rewards={}, metrics={}, stops=[])
        self.trace.record_reward = lambda name, value, weight: self.trace.rewards.update({name: value})
        self.trace.record_metrics = self.trace.metrics.update
        self.trace.stop = self.trace.stops.append

    @asynccontextmanager
    async def interaction(self, task: Any) -> Any:
        self.messages.append(task.data.prompt)
        yield self

    async def turn(self, message: Any = None) -> Any:
        if message is not None:
            self.messages.append(message)
        if not self.answers:
            return SimpleNamespace(terminated=True, last_reply="")
        return SimpleNamespace(terminated=False, last_reply=self.answers.pop(0))


def test_verifiers(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("verifiers.v1", reason="verifiers is not installed: pip install verifiers")
    monkeypatch.syspath_prepend(EXAMPLES / "verifiers_opera")
    from verifiers_opera.taskset import RestorationConfig, RestorationEnv, RestorationTaskset

    first, second = RestorationTaskset(RestorationConfig(id="verifiers_opera", server=server, num_tasks=2))
    assert (first.data.seed, second.data.seed) == (0, 1)
    assert "tiny.blur" in first.data.system_prompt and "<undo>" in first.data.system_prompt
    client = ScoringClient(server)
    (scored,) = client.score([0], [("tiny.blur",)])
    labels = sorted(scored.degradations or ())

    def play(*answers: str) -> Player:
        player = Player(*answers)
        agents = SimpleNamespace(player=player)
        asyncio.run(RestorationEnv.run(SimpleNamespace(), first, agents))
        return player

    named = f"<degradation>{labels}</degradation><answer>[]</answer>"
    apply = "<think>Hm.</think><apply>['tiny.blur']</apply>"
    player = play(apply, f"<think>Good.</think>{named}")
    assert player.trace.rewards["total"] == pytest.approx(scored.reward, abs=1e-4)
    assert (
        player.trace.metrics["r_d"] == player.trace.metrics["r_f"] == player.trace.metrics["tools_run"] == 1
    )
    prompt, result = player.messages
    assert prompt[0].content[0].image_url.url != result[0].content[0].image_url.url
    one_shot = play(f"<think>Hm.</think>{named.replace('[]</answer>', '''['tiny.blur']</answer>''')}")
    assert one_shot.trace.rewards["total"] == pytest.approx(scored.reward, abs=1e-4)
    broken = play(apply, "I would stop.")
    assert broken.trace.rewards["total"] == 0 and broken.trace.stops == ["format"]


def test_openenv(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openenv.core", reason="OpenEnv is not installed: pip install openenv")
    monkeypatch.syspath_prepend(EXAMPLES / "openenv_opera")
    monkeypatch.setenv("OPERA_SERVER", server)
    try:
        from models import RestorationAction
        from server.environment import RestorationEnvironment

        environment = RestorationEnvironment()
        first = environment.reset(seed=0)
        assert first.tools == list(ScoringClient(server).tool_names) and not first.done
        second = environment.step(RestorationAction(tools=["tiny.darken"]))
        assert (second.plan, second.reward) == (["tiny.darken"], 0.0) and second.image != first.image
        (scored,) = ScoringClient(server).score([0], [("tiny.blur",)])
        labels = sorted(scored.degradations or ())
        last = environment.step(RestorationAction(undo=1, tools=["tiny.blur"], degradations=labels))
        assert last.done and last.reward == pytest.approx(scored.reward, abs=1e-4)
        assert environment.state.step_count == 2 and environment.rubric is not None
        factors = {name: rubric.last_score for name, rubric in environment.rubric.named_rubrics()}
        assert factors["r_d"] == 1.0 and factors["r_q"] == pytest.approx(scored.reward, abs=1e-4)
        other = RestorationEnvironment()
        assert other.reset(seed=0).image == first.image, "sessions of their own"
    finally:
        for name in ("models", "server", "server.environment"):
            sys.modules.pop(name, None)
