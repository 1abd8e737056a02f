"""How a process ends if it is told to: by Ctrl-C, by ``kill``, or because nobody reads its output."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import PurePath
from typing import NoReturn

from opera_env.signal_handlers import STOPS, Handlers, SignalsRaise, TerminationSignal, end_process

EXIT_INTERRUPTED = 128 + signal.SIGINT
"""Exit code after Ctrl-C, as in shells: 130."""

EXIT_BROKEN_PIPE = 128 + 13
"""Exit code if the reader of an output has ended, as in ``opera-env ... | head``: 141, as in shells."""

_OUTPUTS = (1, 2)
"""Descriptors of standard output and standard error."""


def run_command(run: Callable[[], int | None], report: Callable[[Exception], int] | None = None) -> int:
    """Runs a command, and turns what ends it from outside into one line and the usual exit code.

    Signals raise an exception in ``run``, as Ctrl-C does in Python, so that ``finally`` blocks and context
    managers leave the files in order.

    Args:
        run: The command; its result is the exit code, None is 0.
        report: Prints an error of ``run`` and returns the exit code; by default errors are the caller's. An
            error after a signal is not reported, because a library may have raised it in place of the
            exception of the signal.

    Returns:
        The exit code: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP, whatever the result is then;
        141 if standard output or standard error is a pipe that nobody reads any more.
    """
    signals = SignalsRaise()
    try:
        with signals:
            try:
                code = run() or 0
                sys.stdout.flush()  # a closed pipe is noticed here and not when the interpreter ends
            except Exception as error:
                raise_signal_behind(error)
                signals.raise_lost()
                if report is None or (isinstance(error, BrokenPipeError) and output_has_no_reader()):
                    raise
                code = report(error)
            signals.raise_lost()
            return code
    except KeyboardInterrupt as stop:
        _print_line(with_notes(": ".join(["interrupted", *map(str, stop.args)]), stop))
        return EXIT_INTERRUPTED
    except TerminationSignal as stop:
        _print_line(with_notes(stop.message, stop))
        return int(stop.code or 0)
    except BrokenPipeError:
        if not output_has_no_reader():
            raise
        _discard_unread_output()
        return EXIT_BROKEN_PIPE
    finally:
        signals.close()  # again, because a signal may have ended the first time


def raise_signal_behind(error: BaseException) -> None:
    """Raises the exception of a signal that some code has replaced by an error of its own.

    Args:
        error: The error; nothing happens if no signal is behind it.
    """
    reason: BaseException | None = error
    while reason is not None:
        if isinstance(reason, KeyboardInterrupt | TerminationSignal):
            raise reason
        reason = reason.__context__


def with_notes(message: str, error: BaseException) -> str:
    """Returns a message with the notes of an exception, such as where unfinished results are, in one line.

    Example:
        >>> error = KeyboardInterrupt()
        >>> error.add_note("a.json keeps what is finished")
        >>> with_notes("interrupted", error)
        'interrupted; a.json keeps what is finished'
    """
    notes: list[str] = getattr(error, "__notes__", [])
    return "; ".join([message.rstrip("."), *notes]) if notes else message


@contextmanager
def stops_explained(hint: str) -> Iterator[None]:
    """Adds a hint to the line that a process prints if a signal ends what happens within.

    Args:
        hint: What to do next, such as "the same command resumes runs/planner".
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        stop.args = (hint,)
        raise
    except TerminationSignal as stop:
        stop.message = f"{stop.message}: {hint}"
        raise


@contextmanager
def signals_end_the_process() -> Iterator[None]:
    """Signals end the process at once and in one line within: for imports, which leave nothing to tidy up.

    An exception instead would be a traceback, and some extension modules swallow it or raise another one.
    """
    handlers = Handlers(dict.fromkeys(STOPS, end_process))
    handlers.install()
    try:
        yield
    finally:
        handlers.restore()


def signals_end_imports(package: str, script: str | None = None) -> None:
    """Signals end the process as above, if it is to run a program of a package.

    A package calls it first of all, because its programs start with imports that take seconds.
    :func:`run_command` replaces the handlers. In any other process, such as one that uses the package as a
    library, nothing is changed.

    Args:
        package: Name of the package that calls it; its programs are called by ``python -m``.
        script: Name of a script that runs a program of the package.
    """
    arguments = zip(sys.orig_argv, sys.orig_argv[1:], strict=False)
    modules = [module for option, module in arguments if option == "-m"]
    is_module = bool(modules) and modules[0].startswith(f"{package}.")
    if is_module or (script is not None and PurePath(*sys.argv[:1]).stem == script):
        Handlers(dict.fromkeys(STOPS, end_process)).install()


def exit_process(code: int) -> NoReturn:
    """Ends the process with an exit code, which a signal no longer changes: all is done."""
    for name in STOPS:
        if hasattr(signal, name):  # Windows has no SIGHUP
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    sys.exit(code)


def output_has_no_reader() -> bool:
    """Returns whether standard output or standard error is a pipe that nobody reads any more."""
    return any(map(_reader_has_ended, _OUTPUTS))


def _discard_unread_output() -> None:
    """Redirects outputs that nobody reads to nowhere.

    The interpreter would otherwise report at its end that it cannot write what is left in the buffers.
    """
    for output in filter(_reader_has_ended, _OUTPUTS):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, output)
        os.close(nowhere)


def _reader_has_ended(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, 0)  # errors are reported whatever is asked for
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _print_line(text: str) -> None:
    with suppress(OSError):  # the terminal may be gone
        print(text, file=sys.stderr, flush=True)
