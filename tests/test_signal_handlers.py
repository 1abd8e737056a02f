"""Signals raise until they have ended a command, or wait at steps that must not be torn apart."""

from __future__ import annotations

import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress

import pytest

from opera_env.signal_handlers import InterruptSignal, SignalsRaise, SignalsWait
from opera_env.signal_handlers import TerminationSignal as Terminated
from tests.every_instruction import signal_at_every_instruction

EXCEPTIONS = {signal.SIGINT: InterruptSignal, signal.SIGTERM: Terminated, signal.SIGHUP: Terminated}
AGAIN_SECONDS = 0.05
BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opera_env.signal_handlers.AGAIN_SECONDS", AGAIN_SECONDS)


class Deleted:
    """Raises a signal when it is deleted; Python ignores exceptions then."""

    def __init__(self, number: signal.Signals) -> None:
        self.number = number

    def __del__(self) -> None:
        signal.raise_signal(self.number)


def swallow(number: signal.Signals) -> None:
    with suppress(BaseException):  # as some libraries do
        signal.raise_signal(number)


def delete(number: signal.Signals) -> None:
    thing = Deleted(number)
    del thing


def call_back(number: signal.Signals) -> None:
    thing = threading.Event()
    reference = weakref.ref(thing, lambda _: signal.raise_signal(number))
    del thing
    assert reference() is None


WAYS = [swallow, delete, call_back]
"""Ways to lose the exception of a signal."""


@BOTH
@pytest.mark.parametrize("lose", WAYS, ids=lambda lose: lose.__name__)
def test_an_exception_that_is_lost_is_raised_again(
    lose: Callable[[signal.Signals], None], number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", printed.append)
    with pytest.raises(EXCEPTIONS[number]), SignalsRaise():
        lose(number)
        time.sleep(20 * AGAIN_SECONDS)
        pytest.fail("the signal is lost")
    assert printed == []


def test_other_exceptions_that_python_ignores_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __del__(self) -> None:
            raise ValueError("mine")

    printed: list[str] = []
    hook = lambda ignored: printed.append(str(ignored.exc_value))  # noqa: E731
    monkeypatch.setattr(sys, "unraisablehook", hook)
    with SignalsRaise():
        broken = Broken()
        del broken
    assert printed == ["mine"]
    assert sys.unraisablehook is hook


def test_an_exception_that_is_lost_again_and_again_is_raised_again_and_again() -> None:
    num_raised = 0
    with pytest.raises(Terminated), SignalsRaise():
        for _ in range(2):
            try:
                signal.raise_signal(signal.SIGTERM) if num_raised == 0 else time.sleep(20 * AGAIN_SECONDS)
            except Terminated:
                num_raised += 1
        assert num_raised == 2
        time.sleep(20 * AGAIN_SECONDS)


def test_an_exception_on_its_way_is_not_raised_a_second_time() -> None:
    """What ``finally`` blocks and context managers do may take long."""
    done = False
    with pytest.raises(Terminated), SignalsRaise():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            time.sleep(2.5 * AGAIN_SECONDS)
            done = True
    assert done


def test_a_signal_whose_exception_is_kept_is_raised_in_the_end() -> None:
    with pytest.raises(Terminated) as stop, SignalsRaise() as signals:
        try:
            signal.raise_signal(signal.SIGTERM)
        except Terminated as error:
            kept = error
        signals.raise_lost()
    assert stop.value is not kept


def test_without_a_signal_nothing_is_raised_in_the_end() -> None:
    with SignalsRaise() as signals:
        signals.raise_lost()


def test_all_handlers_are_as_before_in_the_end() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    with pytest.raises(InterruptSignal), SignalsRaise():
        signal.raise_signal(signal.SIGINT)
    assert [signal.getsignal(number) for number in numbers] == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


@BOTH
def test_signals_wait_until_the_end(number: signal.Signals) -> None:
    done = []
    with pytest.raises(EXCEPTIONS[number]), SignalsRaise():
        with SignalsWait():
            signal.raise_signal(number)
            done.append(1)
        done.append(2)
    assert done == [1]


@BOTH
def test_signals_wait_until_they_may_come(number: signal.Signals) -> None:
    done = []
    with pytest.raises(EXCEPTIONS[number]), SignalsRaise(), SignalsWait() as signals:
        signal.raise_signal(number)
        done.append(1)
        signals.come_during(lambda: done.append(2))
    assert done == [1]


@BOTH
def test_no_signal_comes_between_a_step_and_its_reversal(number: signal.Signals) -> None:
    made: list[int] = []

    def step() -> None:
        with SignalsWait() as signals:
            made.append(1)
            try:
                signals.come_during(lambda: None)
            finally:
                made.pop()

    def check() -> None:
        assert made == []

    assert signal_at_every_instruction(number, step, check) > 100
