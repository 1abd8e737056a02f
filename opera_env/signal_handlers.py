"""Handlers of the signals that end a process: they raise an exception, wait, or end the process at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn, TypeVar

TERMINATIONS = {"SIGTERM": "terminated", "SIGHUP": "terminated, the terminal was closed"}
"""The signals that ask a process to end, with the line that it prints then."""

STOPS = ("SIGINT", *TERMINATIONS)
"""All signals that end a process; SIGINT is Ctrl-C."""

AGAIN_SECONDS = 0.5
"""Seconds after which the exception of a signal is raised again if something has swallowed it."""

Handler = Callable[[int, FrameType | None], Any]
Result = TypeVar("Result")


class InterruptSignal(KeyboardInterrupt):
    """Ctrl-C; unlike the class of Python, it can be referred to weakly."""


class TerminationSignal(SystemExit):
    """A signal has asked this process to end. The exit code is 128 plus the number of the signal.

    Attributes:
        message: What happened, in one line.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(128 + number)
        self.message = message


class Handlers:
    """Handlers of signals by name, which can be installed and replaced by the previous ones again.

    A signal that the process ignores, as after ``nohup``, stays ignored. In other threads than the main one
    Python cannot install handlers.
    """

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = dict(handlers)
        self._previous: dict[int, Any] = {}

    def install(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for name, handler in self._handlers.items():
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, handler):
                self._previous[number] = signal.getsignal(number)
                signal.signal(number, handler)

    def restore(self) -> None:
        for number, handler in self._previous.items():
            # None is a handler that was not installed from Python, which cannot be restored.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


class SignalsRaise:
    """Signals raise an exception within: :class:`InterruptSignal` or :class:`TerminationSignal`.

    Python and libraries lose exceptions in some places: in ``__del__`` methods, in callbacks of weak
    references, when C code asks for an attribute. An exception that is gone, and has not ended what happens
    within, is raised again; Python does not print that it has ignored it. One that somebody keeps cannot be
    told from one that is on its way; :meth:`raise_lost` raises it in the end.
    """

    def __init__(self) -> None:
        self._unraisablehook = sys.unraisablehook
        self._handlers = Handlers({name: self._raise for name in STOPS} | {"SIGALRM": self._raise_again})
        self._number: int | None = None
        self._raised: weakref.ref[BaseException] | None = None

    def __enter__(self) -> SignalsRaise:
        self._unraisablehook, sys.unraisablehook = sys.unraisablehook, self._print_ignored
        self._handlers.install()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Installs the previous handlers; a second call does it if a signal has ended the first one."""
        self._raised = None
        if self._number is not None and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        self._handlers.restore()
        sys.unraisablehook = self._unraisablehook

    def raise_lost(self) -> None:
        """Raises the exception of a signal if there was one, although nothing has ended."""
        if self._number is not None:
            raise self._make_exception(self._number)

    def _raise(self, number: int, frame: FrameType | None) -> NoReturn:
        raise self._make_exception(number)

    def _raise_again(self, alarm: int, frame: FrameType | None) -> None:
        if self._number is not None and self._raised is not None and self._raised() is None:
            raise self._make_exception(self._number)

    def _print_ignored(self, ignored: sys.UnraisableHookArgs) -> None:
        if not isinstance(ignored.exc_value, InterruptSignal | TerminationSignal):
            self._unraisablehook(ignored)

    def _make_exception(self, number: int) -> BaseException:
        """Makes the exception of a signal; no frame of its traceback may keep it."""
        name = signal.Signals(number).name
        is_termination = name in TERMINATIONS
        error = TerminationSignal(number, TERMINATIONS[name]) if is_termination else InterruptSignal()
        self._number, self._raised = number, weakref.ref(error)
        if hasattr(signal, "setitimer"):  # Windows has none
            signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS, AGAIN_SECONDS)
        return error


class SignalsWait:
    """Signals wait within, so that none can come between a step and the step that undoes it.

    Example:
        with SignalsWait() as signals:
            path.touch()
            try:
                result = signals.come_during(work)
            finally:
                path.unlink()
    """

    def __init__(self) -> None:
        # A signal whose exception was lost comes again as an alarm.
        self._handlers = Handlers({name: self._wait for name in (*STOPS, "SIGALRM")})
        self._waiting: list[int] = []

    def __enter__(self) -> SignalsWait:
        self._handlers.install()
        return self

    def __exit__(self, *error: object) -> None:
        self._handlers.restore()
        self._deliver()

    def come_during(self, work: Callable[[], Result]) -> Result:
        """Calls a function during which signals come as before, those that have waited first.

        It is no context manager, because a signal at its end would leave that to the garbage collector.
        """
        try:
            self._handlers.restore()
            self._deliver()
            return work()
        finally:
            self._handlers.install()

    def _wait(self, number: int, frame: FrameType | None) -> None:
        self._waiting.append(number)

    def _deliver(self) -> None:
        while self._waiting:
            signal.raise_signal(self._waiting.pop(0))


def end_process(number: int, frame: FrameType | None) -> NoReturn:
    """A handler that ends the process at once, in one line and with the exit code of the signal."""
    message = TERMINATIONS.get(signal.Signals(number).name, "interrupted")
    with suppress(OSError):  # standard error may be closed
        os.write(2, f"{message}\n".encode())
    os._exit(128 + number)
