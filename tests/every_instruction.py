"""Sends a signal at every instruction of a function, one after the other."""

from __future__ import annotations

import enum
import gc
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from opera_env.signal_handlers import SignalsRaise

_ONE_STEP = (signal.__file__, enum.__file__)
"""Files whose functions count as one instruction; they convert numbers and handlers of signals."""


def signal_at_every_instruction(
    number: signal.Signals, function: Callable[[], object], check: Callable[[], object], stride: int = 1
) -> int:
    """Calls a function with a signal at its first instruction, then with one at its second, to the end.

    Python itself calls handlers of signals between some of the instructions only. The garbage collector
    waits meanwhile: it would finalise objects of other tests at any of the instructions, and Python ignores
    what is raised there (see the tests of exceptions that are lost).

    Args:
        number: The signal, which has to end the function, even if later.
        function: The function.
        check: What is called after each signal has ended the function.
        stride: Distance of the instructions at which the signal comes.

    Returns:
        Number of instructions of the function, those of other Python functions that it calls included.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        return _count_instructions(number, function, check, stride)
    finally:
        if collects:
            gc.enable()


def _count_instructions(
    number: signal.Signals, function: Callable[[], object], check: Callable[[], object], stride: int
) -> int:
    for instruction in range(0, 1_000_000, stride):
        tracer = _Tracer(number, instruction)
        before = sys.gettrace()
        try:
            with SignalsRaise():
                sys.settrace(tracer)
                try:
                    function()
                finally:
                    sys.settrace(before)
        except (KeyboardInterrupt, SystemExit):
            check()
        else:
            if tracer.count > instruction:
                pytest.fail(f"the signal at instruction {instruction} is lost")
            return tracer.count
    raise AssertionError("the function has no end")


class _Tracer:
    """Raises a signal at an instruction."""

    def __init__(self, number: signal.Signals, instruction: int) -> None:
        self.number, self.instruction, self.count = number, instruction, 0

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename in _ONE_STEP:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.count += 1
            if self.count == self.instruction + 1:
                signal.raise_signal(self.number)
        return self
