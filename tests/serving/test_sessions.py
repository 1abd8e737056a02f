"""Sessions: their number, their age, and one request at a time."""

from __future__ import annotations

import pytest

from opera_env.envs.observation import Episode
from opera_env.serving.sessions import SessionError, Sessions, TooManySessionsError
from opera_env.types import Sample


def test_sessions_that_are_not_used_make_room(samples: list[Sample]) -> None:
    now = [0.0]
    sessions = Sessions(2, 10.0, lambda: now[0])
    old, used = (sessions.open(Episode(samples[0])) for _ in range(2))
    with pytest.raises(TooManySessionsError, match="2 sessions are open"):
        sessions.open(Episode(samples[0]))
    now[0] = 8.0
    sessions.give_back(sessions.take(used.name))
    now[0] = 11.0
    new = sessions.open(Episode(samples[0]))
    with pytest.raises(SessionError, match="Open another"):
        sessions.take(old.name)
    assert len({old.name, used.name, new.name}) == 3 and len(sessions) == 2


def test_a_session_takes_one_request_at_a_time(samples: list[Sample]) -> None:
    sessions = Sessions(2, 10.0)
    session = sessions.open(Episode(samples[0]))
    sessions.take(session.name)
    with pytest.raises(SessionError, match="wait for its answer") as caught:
        sessions.take(session.name)
    assert caught.value.in_use
    sessions.give_back(session)
    assert sessions.take(session.name) is session


def test_a_session_ends_with_its_episode(samples: list[Sample]) -> None:
    sessions = Sessions(2, 10.0)
    session = sessions.open(Episode(samples[0]))
    sessions.take(session.name)
    session.episode.done = True
    sessions.give_back(session)
    assert len(sessions) == 0
    sessions.close(session.name)  # it does not matter that it is closed already
