"""The sessions of the scoring server: episodes in which tools are applied turn by turn."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from opera_env.envs.observation import Episode
from opera_env.errors import OperaError


class SessionError(OperaError):
    """There is no such session, or another request uses it.

    Attributes:
        in_use: Whether another request uses it.
    """

    def __init__(self, message: str, in_use: bool = False) -> None:
        super().__init__(message)
        self.in_use = in_use


class TooManySessionsError(OperaError):
    """As many sessions are open as the server keeps."""


@dataclass(eq=False)
class Session:
    """An episode that somebody plays.

    Attributes:
        name: Name of the session, which cannot be guessed.
        episode: The episode.
        last_used: Time of the last request, in seconds of the clock of the sessions.
        in_use: Whether a request is being answered.
        answer: The answer to the last turn, for a request that is repeated because it was lost.
    """

    name: str
    episode: Episode
    last_used: float
    in_use: bool = False
    answer: dict[str, Any] | None = None


class Sessions:
    """Keeps sessions; those that have not been used for long are closed when another is opened.

    Args:
        largest: Largest number of open sessions.
        seconds: Time without a request after which a session may be closed.
        clock: Returns the time in seconds.
    """

    def __init__(self, largest: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._largest, self._seconds, self._clock = largest, seconds, clock
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, episode: Episode) -> Session:
        """Opens a session for an episode.

        Raises:
            TooManySessionsError: If there are too many, all of them used lately.
        """
        self.check_room()
        session = Session(secrets.token_urlsafe(16), episode, self._clock())
        self._sessions[session.name] = session
        return session

    def check_room(self) -> None:
        """Closes sessions that have not been used for long, and raises if there is no room for another."""
        now = self._clock()
        for name in [name for name, each in self._sessions.items() if now - each.last_used > self._seconds]:
            del self._sessions[name]
        if len(self._sessions) >= self._largest:
            raise TooManySessionsError(
                f"{len(self._sessions)} sessions are open, expected at most {self._largest} "
                "(--max-sessions): finish or close some."
            )

    def take(self, name: str) -> Session:
        """Returns a session, which is in use until :meth:`give_back`.

        Raises:
            SessionError: If there is none of this name, or another request uses it.
        """
        session = self._sessions.get(name)
        if session is None:
            raise SessionError(
                f"no session {name[:40]!r}: it has ended, or the server was started again. Open another."
            )
        if session.in_use:
            raise SessionError("another request uses this session: wait for its answer.", in_use=True)
        session.in_use = True
        return session

    def give_back(self, session: Session) -> None:
        """Ends the use of a session; one whose episode has ended is closed."""
        session.in_use, session.last_used = False, self._clock()
        if session.episode.done:
            self.close(session.name)

    def close(self, name: str) -> None:
        """Closes a session, if there is one of this name."""
        self._sessions.pop(name, None)
