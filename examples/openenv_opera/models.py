"""What the environment takes and gives."""

from openenv.core.env_server.types import Action, Observation
from pydantic import Field


class RestorationAction(Action):
    """One turn: take tools back, apply others, and perhaps end the episode.

    The episode also ends with the last tool that may run: name the degradations in that turn at the latest.
    """

    tools: list[str] = Field(default_factory=list, description="Names of tools to apply, in order.")
    undo: int = Field(default=0, ge=0, description="How many tools to take back before.")
    degradations: list[str] | None = Field(
        default=None, description="What was wrong with the photograph; naming it ends the episode."
    )


class RestorationObservation(Observation):
    """The photograph as it is now."""

    image: str = Field(default="", description="The photograph, PNG in base64.")
    plan: list[str] = Field(default_factory=list, description="The tools that are applied.")
    steps_left: int = Field(default=0, description="How many more tools may run.")
    tools: list[str] = Field(default_factory=list, description="The tools that may be named.")
    labels: list[str] = Field(default_factory=list, description="The degradations that may be named.")
    r_q: float = Field(default=0.0, description="Restoration quality at the end; 0 before.")
    r_d: float = Field(default=0.0, description="F1 score of the degradations that were named.")
