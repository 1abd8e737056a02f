"""Photographs as tasks, and rollouts that apply tools to them turn by turn, or all at once."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import verifiers.v1 as vf

from opera_env.answer import TurnGrammar
from opera_env.serving.client import RemoteSession, ScoringClient

_ONE_SHOT = """\
Answer in three parts, with nothing before, between or after them:
<think>what you see, and why you choose these tools in this order</think>
<degradation>a Python list of its degradations</degradation>
<answer>a Python list of the tools in the order in which they are applied</answer>"""

_TURNS = """\
Begin each answer with <think>what you see, and what follows from it</think> and then do one of these:
<apply>['TOOL']</apply> applies tools in the order of the list, and shows you the result
<undo>1</undo> takes back so many of the tools that were applied last; <apply>...</apply> may follow
<degradation>a Python list of its degradations</degradation><answer>[]</answer> ends"""

_QUESTION = "Which degradations does this photograph have, and which tools restore it, in which order?"
"""Text of the first message, which models that are trained with opera-env know."""

_LAST_TOOL = """
The last of them ends the work, so that you name the degradations before:
<degradation>...</degradation> may stand before <apply>...</apply>."""

_SYSTEM = """\
You restore photographs. Name the degradations of the one you are shown, and restore it with tools.

Degradations: {labels}
Tools: {tools}
At most {max_tools} tools may run, those that you take back included.{rule}

{form}"""


class RestorationData(vf.TaskData):
    """A photograph."""

    seed: int
    server: str


class RestorationTask(vf.Task[RestorationData]):
    """A photograph that is to be restored."""


class RestorationConfig(vf.TasksetConfig):
    """Where the photographs come from, and how the model works on them."""

    server: str = "http://127.0.0.1:8200"
    """Address of the scoring server."""
    num_tasks: int = 32
    """Number of photographs."""
    first_seed: int = 0
    """Seed of the first photograph; the others follow."""
    turns: bool = True
    """Whether the model sees the results of its tools."""
    system_prompt_file: Path | None = None
    """File of the system prompt, for a model that was trained with one; by default it names what the server
    has."""


class RestorationTaskset(vf.Taskset[RestorationTask, RestorationConfig]):
    """Photographs that the scoring server draws from seeds."""

    def load(self) -> Iterator[RestorationTask]:
        """Yields the photographs."""
        config = self.config
        client = ScoringClient(config.server)
        system = _SYSTEM.format(
            labels=", ".join(client.degradations),
            tools=", ".join(client.tool_names),
            max_tools=client.served["max_tools"],
            form=_TURNS if config.turns else _ONE_SHOT,
            rule=_LAST_TOOL if config.turns else "",
        )
        if config.system_prompt_file is not None:
            system = config.system_prompt_file.read_text()
        for seed in range(config.first_seed, config.first_seed + config.num_tasks):
            session = client.open_session(seed)
            session.close()
            prompt = [vf.UserMessage(content=_parts(session, _QUESTION))]
            yield RestorationTask(
                RestorationData(
                    name=f"photograph {seed}",
                    prompt=prompt,
                    system_prompt=system,
                    seed=seed,
                    server=config.server,
                ),
                config.task,
            )


class RestorationEnvConfig(vf.EnvConfig):
    """Who plays."""

    player: vf.AgentConfig = vf.AgentConfig()


class RestorationEnv(vf.Env[RestorationEnvConfig]):
    """Plays a session of the scoring server with the answers of a model."""

    async def run(self, task: Any, agents: Any) -> None:
        """Plays one episode; an answer that cannot be parsed ends it with R_f = 0."""
        client = await asyncio.to_thread(ScoringClient, task.data.server)
        grammar = TurnGrammar(client.tool_names, client.degradations, client.served["max_tools"])
        session = await asyncio.to_thread(client.open_session, task.data.seed)
        try:
            async with agents.player.interaction(task) as interaction:
                r_f = await _play(interaction, session, grammar)
            _record(interaction.trace, session, r_f)
        finally:
            if not session.state["done"]:  # else it would count among the server's sessions for minutes
                await asyncio.to_thread(session.close)


async def _play(interaction: Any, session: RemoteSession, grammar: TurnGrammar) -> float:
    """Plays until the episode ends; returns R_f."""
    segment = await interaction.turn()
    while not segment.terminated:
        state = session.state
        answer = grammar.parse_turn(segment.last_reply, len(state["plan"]), state["steps_left"])
        if answer.error is not None:
            interaction.trace.stop("format")
            return 0.0
        await asyncio.to_thread(session.step, answer)
        if session.state["done"]:
            return 1.0
        text = f"This is the result. {session.state['steps_left']} more tools may run."
        segment = await interaction.turn([vf.UserMessage(content=_parts(session, text))])
    return 0.0


def _record(trace: Any, session: RemoteSession, r_f: float) -> None:
    """Records the reward and its factors."""
    state = session.state
    trace.record_reward("total", r_f * state.get("total", 0.0), 1.0)
    tools_run = len(state["plan"]) + state["undone"]
    factors = {"r_q": state["r_q"], "r_d": state.get("r_d", 0.0), "r_f": r_f, "tools_run": tools_run}
    trace.record_metrics({name: float(value) for name, value in factors.items()})


def _parts(session: RemoteSession, text: str) -> list[Any]:
    url = f"data:image/png;base64,{session.state['image']}"
    return [
        vf.ImageUrlContentPart(image_url=vf.ImageUrlSource(url=url)),
        vf.TextContentPart(text=text),
    ]
