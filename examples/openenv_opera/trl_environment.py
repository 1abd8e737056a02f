"""The environment for TRL: its episodes run through the client, at a server of OpenEnv.

A call that cannot be understood is answered with what was expected, and the episode then earns nothing.
"""

import base64
import io
from collections.abc import Callable
from typing import Any

from PIL import Image

from .client import RestorationEnv  # noqa: TID252 - the layout of OpenEnv
from .models import RestorationAction, RestorationObservation  # noqa: TID252

QUESTION = "Which degradations does this photograph have, and which tools restore it, in which order?"
"""Text beside the first picture."""


def environment_factory(address: str) -> Callable[[], "ToolEnvironment"]:
    """Returns an ``environment_factory`` for TRL.

    Rows of the data set have a ``prompt``, whose last message is the user's and may be empty, and a
    ``seed``, which draws the photograph. The picture and the question are added to that message.

    Args:
        address: Address of the environment, such as ``http://127.0.0.1:8000``.
    """
    return lambda: ToolEnvironment(address)


class ToolEnvironment:
    """One episode, played by calls of functions; TRL resets it for the next one."""

    def __init__(self, address: str) -> None:
        self._client = RestorationEnv(address).sync()
        self._observation = RestorationObservation()
        self._mistakes, self._reward = 0, 0.0

    def reset(self, seed: int, **row: Any) -> list[dict[str, Any]]:
        """Begins an episode, and returns what is added to the prompt."""
        self._mistakes, self._reward = 0, 0.0
        self._observation = self._client.reset(seed=seed).observation
        return [self._picture(), _text(QUESTION)]

    def apply_tool(self, name: str) -> list[dict[str, Any]]:
        """Applies a restoration tool to the photograph and shows the result.

        Args:
            name: Name of the tool.

        Returns:
            The photograph as it is now, and how many tools may still run.
        """
        if name not in self._observation.tools:
            return self._mistake(f"expected one of {', '.join(self._observation.tools)}")
        return self._step(RestorationAction(tools=[name]))

    def undo(self) -> list[dict[str, Any]]:
        """Takes back the tool that was applied last and shows the photograph without it.

        Returns:
            The photograph as it is now, and how many tools may still run.
        """
        if not self._observation.plan:
            return self._mistake("no tool was applied that could be taken back")
        return self._step(RestorationAction(undo=1))

    def finish(self, degradations: list[str]) -> list[dict[str, Any]]:
        """Ends the restoration. The photograph stays as it is now.

        Args:
            degradations: What was wrong with the photograph.

        Returns:
            Whether the restoration has ended.
        """
        labels = self._observation.labels
        if not isinstance(degradations, list) or any(name not in labels for name in degradations):
            return self._mistake(f"expected names among {', '.join(labels)}")
        result = self._client.step(RestorationAction(degradations=degradations))
        self._observation, self._reward = result.observation, float(result.reward or 0.0)
        return [_text("The restoration has ended.")]

    def get_reward(self) -> float:
        """Returns R = R_q R_d of an episode that was finished without mistakes, else 0."""
        return 0.0 if self._mistakes else self._reward

    def _step(self, action: RestorationAction) -> list[dict[str, Any]]:
        if self._observation.done:
            return self._mistake("no more tools may run, and none can be taken back: call finish")
        self._observation = self._client.step(action).observation
        return [self._picture(), _text(f"{self._observation.steps_left} more may run.")]

    def _picture(self) -> dict[str, Any]:
        data = base64.b64decode(self._observation.image)
        return {"type": "image", "image": Image.open(io.BytesIO(data)).convert("RGB")}

    def _mistake(self, expected: str) -> list[dict[str, Any]]:
        self._mistakes += 1
        return [_text(f"That cannot be done: {expected}.")]


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}
