"""The client of the environment."""

from typing import Any

from openenv.core import EnvClient
from openenv.core.client_types import StepResult
from openenv.core.env_server.types import State

from .models import RestorationAction, RestorationObservation  # noqa: TID252 - the layout of OpenEnv


class RestorationEnv(EnvClient[RestorationAction, RestorationObservation, State]):
    """Plays episodes at a server; each client has a session of its own."""

    def _step_payload(self, action: RestorationAction) -> dict[str, Any]:
        return action.model_dump(exclude={"metadata"})

    def _parse_result(self, payload: dict[str, Any]) -> StepResult[RestorationObservation]:
        shared = {"done": payload.get("done", False), "reward": payload.get("reward")}
        observation = RestorationObservation(**payload.get("observation", {}) | shared)
        return StepResult(observation=observation, **shared)

    def _parse_state(self, payload: dict[str, Any]) -> State:
        return State(episode_id=payload.get("episode_id"), step_count=payload.get("step_count", 0))
