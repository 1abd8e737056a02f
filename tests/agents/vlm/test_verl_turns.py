"""Episodes of verl are those of TRL's environment; the agent loop is tested with the base class of verl."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from opera_agents.vlm.conversation import ENDED, text_part
from opera_agents.vlm.environment import RestorationWorld
from opera_agents.vlm.prompt import build_messages
from opera_agents.vlm.verl import TURNS, RewardConfig
from opera_agents.vlm.verl_turns import SessionEpisode
from opera_env.agents import run_agent
from opera_env.answer import TurnGrammar
from opera_env.data import Source
from opera_env.data.images import to_pil
from opera_env.errors import AgentError
from opera_env.execution import PrefixCache
from opera_env.scoring import PlanScorer
from opera_env.serving.app import make_app
from opera_env.serving.config import ServingConfig
from opera_env.serving.metrics import ServerMetrics
from opera_env.serving.service import ScoringService
from opera_env.tools import Toolbox
from opera_env.types import Sample
from tests.agents.vlm.calling import PROMPT, ScriptedCalls, call
from tests.served import serving_app

MAX_TOOLS = 3


@pytest.fixture
def server(source: Source, toolbox: Toolbox) -> Iterator[str]:
    scorer = PlanScorer(toolbox, "classic", cache=PrefixCache())
    service = ScoringService(scorer, source, ServingConfig(max_tools=MAX_TOOLS))
    with serving_app(make_app(service, ServerMetrics())) as address:
        yield address


def extra_info(sample: Sample, server: str | None, max_tools: int = MAX_TOOLS) -> dict[str, str]:
    config = RewardConfig("", max_tools=max_tools, server=server)
    return {"spec": json.dumps(sample.spec.to_json()), "reward_config": json.dumps(asdict(config))}


def said(name: str, /, **arguments: Any) -> Mapping[str, Any]:
    return {"content": "Hm.", "tool_calls": [{"function": {"name": name, "arguments": arguments}}]}


def test_an_episode_is_that_of_trl(
    server: str, source: Source, samples: list[Sample], toolbox: Toolbox
) -> None:
    scorer = PlanScorer(toolbox, "classic", cache=PrefixCache())
    grammar = TurnGrammar(toolbox.names, source.degradations, MAX_TOOLS)
    world = RestorationWorld(source.make, scorer, grammar)
    environment = world.make_environment()
    for sample in samples:
        environment.reset(spec=sample.spec.to_json())
        episode = SessionEpisode.of_row(extra_info(sample, server))
        calls = [("apply_tool", {"name": "tiny.darken"}), ("undo", {})]
        calls += [("apply_tool", {"name": name}) for name in ("tiny.blur", "tiny.brighten")]  # the last one
        for name, arguments in calls:
            asked, told = episode.take(said(name, **arguments))
            assert asked["tool_calls"][0]["function"] == {"name": name, "arguments": arguments}
            picture, words = getattr(environment, name)(**arguments)
            assert told["content"][1] == words and told["role"] == "tool"
            assert told["content"][0]["image"].tobytes() == picture["image"].tobytes()
        assert episode.take(said("finish", degradations=["noise"])) == []
        assert environment.finish(["noise"]) == [text_part(ENDED)]
        (score,) = world.score([environment])
        expected = {"score": score.total, "r_q": score.r_q, "r_d": score.r_d, "r_f": 1.0}
        assert episode.score() == pytest.approx(expected | {"tools_run": 3.0, "undone": 1.0}, abs=1e-4)
    assert expected["score"] > 0


@pytest.mark.parametrize(
    "message",
    [
        {"content": "It is fine.", "tool_calls": []},
        said("apply_tool", name="no.tool"),
        said("undo"),
        said("finish", degradations=["fire"]),
        {"content": "", "tool_calls": [{"function": {"name": "finish", "arguments": "{"}}]},
    ],
)
def test_what_cannot_be_understood_ends_an_episode_without_reward(
    server: str, samples: list[Sample], message: Mapping[str, Any]
) -> None:
    episode = SessionEpisode.of_row(extra_info(samples[0], server))
    assert episode.take(message) == []
    score = episode.score()
    assert (score["score"], score["r_f"]) == (0.0, 0.0) and score["r_q"] > 0
    episode.close()


def test_no_tool_runs_after_the_last_one(server: str, samples: list[Sample]) -> None:
    episode = SessionEpisode.of_row(extra_info(samples[0], server))
    for left in reversed(range(MAX_TOOLS)):
        _, told = episode.take(said("apply_tool", name="tiny.identity"))
        assert told["content"][1]["text"] == f"{left} more may run."
    assert episode.take(said("apply_tool", name="tiny.identity")) == []
    assert episode.score()["r_f"] == 0.0 and episode.score()["tools_run"] == MAX_TOOLS


def test_rows_and_servers_that_do_not_suit_are_errors(server: str, samples: list[Sample]) -> None:
    with pytest.raises(AgentError, match="write them with --server"):
        SessionEpisode.of_row(extra_info(samples[0], None))
    with pytest.raises(AgentError, match=f"with --max-tools 6, as the prompts say, found {MAX_TOOLS}"):
        SessionEpisode.of_row(extra_info(samples[0], server, max_tools=6))


class Model:
    """What verl calls its server manager; it writes given texts, and keeps what it was asked."""

    def __init__(self, tokenizer: Any, output: Any, *texts: str) -> None:
        self.tokenizer, self.output, self.texts = tokenizer, output, list(texts)
        self.asked = list[tuple[list[int], list[Image.Image]]]()

    async def generate(self, *, prompt_ids: Any, image_data: Any, **_: Any) -> Any:
        self.asked.append((list(prompt_ids), list(image_data)))
        ids = self.tokenizer(self.texts.pop(0) + self.tokenizer.eos_token)["input_ids"]
        return self.output(token_ids=ids, log_probs=[-float(len(self.asked))] * len(ids))


class VerlLoop:
    """Our agent loop, made as verl makes it from the file of our presets, with a scripted model."""

    def __init__(self, agent: ScriptedCalls, response_length: int, *texts: str) -> None:
        hydra = pytest.importorskip("hydra", reason="verl is not installed: pip install verl")
        loops = pytest.importorskip(
            "verl.experimental.agent_loop.agent_loop", reason="verl is not installed: pip install verl"
        )
        from omegaconf import OmegaConf
        from verl.workers.rollout.replica import TokenOutput

        self.agent, self.tokenizer = agent, agent.processor.tokenizer
        self.model = Model(self.tokenizer, TokenOutput, *texts)
        presets = Path(__file__).parents[3] / "agents" / "opera_agents" / "vlm" / "presets"
        (entry,) = OmegaConf.load(presets / "verl-turns.yaml")
        assert entry.name == TURNS
        rollout = {
            "prompt_length": 2000,
            "response_length": response_length,
            "full_determinism": False,
            "multi_turn": {"format": "hermes"},
        }
        self.make = lambda: hydra.utils.instantiate(
            entry,
            trainer_config=loops.DictConfigWrap(
                OmegaConf.create({"actor_rollout_ref": {"rollout": rollout}})
            ),
            server_manager=self.model,
            tokenizer=self.tokenizer,
            processor=agent.processor,
            hf_model_type="qwen2_5_vl",
            dataset_cls=SimpleNamespace,
            data_config=loops.DictConfigWrap(OmegaConf.create({})),
            tools=loops.ToolListWrap([]),
        )
        self.output_class = loops.AgentLoopOutput

    def run(self, sample: Sample, server: str) -> Any:
        buffer = io.BytesIO()
        to_pil(sample.lq).save(buffer, "PNG")

        async def play() -> Any:
            messages = build_messages(PROMPT, Image.open(buffer))
            return await self.make().run({}, raw_prompt=messages, extra_info=extra_info(sample, server))

        output = asyncio.run(play())
        assert isinstance(output, self.output_class)
        return output


def test_verl_asks_what_the_agent_is_asked(server: str, samples: list[Sample], toolbox: Toolbox) -> None:
    texts = (
        call("apply_tool", name="tiny.darken"),
        call("undo"),
        "Dark." + call("apply_tool", name="tiny.brighten"),
        call("finish", degradations=["low_light"]),
    )
    agent = ScriptedCalls(toolbox, *texts, max_tools=MAX_TOOLS)
    loop = VerlLoop(agent, 1000, *texts)
    output = loop.run(samples[1], server)
    run_agent(agent, [samples[1]], PlanScorer(toolbox, "classic"), MAX_TOOLS)
    assert len(agent.asked) == len(loop.model.asked) == 4 and not loop.model.texts
    for (prompt, images, _), (prompt_ids, shown) in zip(agent.asked, loop.model.asked, strict=True):
        assert agent.processor(text=[prompt], images=[images])["input_ids"][0] == prompt_ids
        assert [each.tobytes() for each in images] == [each.tobytes() for each in shown]

    written = [token for token, mask in zip(output.response_ids, output.response_mask, strict=True) if mask]
    end = loop.tokenizer.eos_token
    assert loop.tokenizer.decode(written) == "".join(text + end for text in texts)
    last = loop.tokenizer(texts[-1] + end)["input_ids"]
    assert output.prompt_ids + output.response_ids == loop.model.asked[-1][0] + last
    turn_of = dict.fromkeys(output.response_logprobs)
    assert list(turn_of) == [-1.0, 0.0, -2.0, -3.0, -4.0], "probabilities of what was written only"
    assert len(output.multi_modal_data["images"]) == 4
    info = output.extra_fields["reward_extra_info"]
    (outcome,) = PlanScorer(toolbox, "classic").score(samples[1:2], [("tiny.brighten",)])
    assert output.reward_score == info["score"] == pytest.approx(outcome.r_q, abs=1e-4)
    assert (info["r_d"], info["r_f"], info["tools_run"], info["undone"]) == (1.0, 1.0, 2.0, 1.0)
    padded = output.as_dict()
    assert float(padded["rm_scores"][-1]) == pytest.approx(output.reward_score)


def test_an_episode_of_verl_that_is_too_long_earns_nothing(
    server: str, samples: list[Sample], toolbox: Toolbox
) -> None:
    text = call("apply_tool", name="tiny.blur")
    agent = ScriptedCalls(toolbox)
    length = len(agent.processor.tokenizer(text)["input_ids"]) + 10
    output = VerlLoop(agent, length, text).run(samples[0], server)
    assert output.reward_score == 0.0 and len(output.multi_modal_data["images"]) == 1
    assert len(output.response_ids) == len(output.response_mask) <= length
    assert all(output.response_mask), "the image that did not fit is left out"
