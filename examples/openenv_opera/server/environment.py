"""An episode of OpenEnv is a session of the scoring server of opera-env."""

import os
from typing import Any
from uuid import uuid4

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import State
from openenv.core.rubrics import Rubric

from opera_env.serving.client import RemoteSession, ScoringClient
from opera_env.types import Decision

try:  # installed, or as the module server.environment in the folder of the environment
    from ..models import RestorationAction, RestorationObservation  # noqa: TID252
except ImportError:
    from models import RestorationAction, RestorationObservation


class FactorRubric(Rubric):
    """One factor of the reward, as the observation states it."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, action: RestorationAction, observation: RestorationObservation) -> float:
        return float(getattr(observation, self.name))


class RestorationRubric(Rubric):
    """R = R_q R_d at the end of an episode, and 0 before."""

    def __init__(self) -> None:
        super().__init__()
        self.r_q, self.r_d = FactorRubric("r_q"), FactorRubric("r_d")

    def forward(self, action: RestorationAction, observation: RestorationObservation) -> float:
        product = self.r_q(action, observation) * self.r_d(action, observation)
        return product if observation.done else 0.0


class RestorationEnvironment(Environment[RestorationAction, RestorationObservation, State]):
    """Restores photographs that the scoring server draws."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__(rubric=RestorationRubric())
        self._client = ScoringClient(os.environ.get("OPERA_SERVER", "http://127.0.0.1:8200"))
        self._session: RemoteSession | None = None
        self._state = State(episode_id=str(uuid4()), step_count=0)

    def reset(
        self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any
    ) -> RestorationObservation:
        """Begins an episode; equal seeds give equal photographs."""
        drawn = int.from_bytes(os.urandom(7)) if seed is None else seed
        self._state = State(episode_id=episode_id or str(uuid4()), step_count=0)
        if self._session is not None and not self._session.state["done"]:
            self._session.close()  # else it would count among the server's sessions for minutes
        self._session = self._client.open_session(drawn)
        return self._observe(done=False)

    def step(
        self, action: RestorationAction, timeout_s: float | None = None, **kwargs: Any
    ) -> RestorationObservation:
        """Takes one turn."""
        if self._session is None:
            raise RuntimeError("expected reset() before step().")
        labels = action.degradations
        self._session.step(
            Decision(
                tuple(action.tools),
                None if labels is None else frozenset(labels),
                undo=action.undo,
                finish=labels is not None,
            )
        )
        self._state.step_count += 1
        observation = self._observe(done=bool(self._session.state["done"]))
        observation.reward = self.rubric(action, observation) if self.rubric else None
        return observation

    def _observe(self, done: bool) -> RestorationObservation:
        assert self._session is not None
        state = self._session.state
        return RestorationObservation(
            done=done,
            image=state["image"],
            plan=state["plan"],
            steps_left=state["steps_left"],
            tools=list(self._client.tool_names),
            labels=list(self._client.degradations),
            r_q=max(0.0, state["reward"]) if done else 0.0,  # it is computed from the reference
            r_d=state.get("r_d", 0.0),
        )

    @property
    def state(self) -> State:
        return self._state
