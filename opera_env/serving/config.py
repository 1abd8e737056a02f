"""The limits of the scoring server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from opera_env.settings import NonNegativeFloat, PositiveFloat, PositiveInt, Range, check_settings


@dataclass(frozen=True)
class ServingConfig:
    """Limits and settings of the scoring server.

    Attributes:
        max_tools: Maximum number of tools in a plan, and of tools that run in a session.
        tool_cost: Cost of each tool, subtracted from R_q.
        gather_ms: Time in milliseconds for which a call waits for others, to be scored with them.
        max_batch: Number of plans at which a batch is scored without waiting longer.
        max_plans: Largest number of plans in a call.
        max_queue: Largest number of plans that wait; calls beyond it are refused with status 503.
        max_sessions: Largest number of open sessions; more are refused with status 429.
        session_seconds: Time in seconds after which a session that is not used is closed.
        max_pixels: Largest number of pixels in a call, all its images together.
        timeout: Longest time in seconds that a call waits for its scores.
    """

    max_tools: Annotated[int, Range(1, 100)] = 6
    tool_cost: NonNegativeFloat = 0.0
    gather_ms: NonNegativeFloat = 5.0
    max_batch: PositiveInt = 256
    max_plans: PositiveInt = 1024
    max_queue: PositiveInt = 8192
    max_sessions: PositiveInt = 1024
    session_seconds: PositiveFloat = 900.0
    max_pixels: PositiveInt = 1024 * 1024
    timeout: PositiveFloat = 300.0

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def max_body_bytes(self) -> int:
        """Largest body of a request: two images as PNG in base64, and the plans."""
        return 8 * self.max_pixels + 1024 * self.max_plans
