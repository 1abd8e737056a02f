"""The time limit of a photograph."""

from __future__ import annotations

from time import monotonic

from opera_env.errors import TimeLimitError


class Deadline:
    """Ends the work on a photograph that takes too long.

    The clock starts when this object is made. The time is compared between tiles and between tools, because
    a running network cannot be stopped.

    Args:
        seconds: The time limit; None for no limit.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._seconds = seconds
        self._start = monotonic()

    def check(self, name: str, done: int, total: int) -> None:
        """Compares the time with the limit.

        Args:
            name: What is being done, for example the name of a tool.
            done: Number of tiles that are done.
            total: Number of tiles in all.

        Raises:
            TimeLimitError: If the time is over.
        """
        if self._seconds is not None and monotonic() - self._start > self._seconds:
            raise TimeLimitError(
                f"not restored within {self._seconds:g} s, ended after {done} of {total} tiles of {name}: "
                "raise --max-seconds"
            )
