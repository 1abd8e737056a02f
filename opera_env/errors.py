"""The errors that this package raises on purpose, one class for each kind of failure.

Every message says what was expected, what was found and how to correct it. All of them are subclasses of
:class:`OperaError`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any


class OperaError(Exception):
    """Base class of all errors that this package raises on purpose. They can be pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        # By default an exception is made again from its message, which is not what constructors here take.
        return _restore_error, (type(self), self.args, self.__dict__)


def _restore_error(kind: type[OperaError], args: tuple[Any, ...], state: dict[str, Any]) -> OperaError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class OperaWarning(UserWarning):
    """Something that this package does otherwise than asked, or that may surprise; nothing has failed."""


def error_message(error: BaseException) -> str:
    """Returns the message of an error in one line, or the name of its class if it has no message."""
    return " ".join(str(error).split()) or type(error).__name__


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns a sentence that suggests the known name that is most like ``name``; "" if none is like it.

    Example:
        >>> "No option 'smaple'." + did_you_mean("smaple", ["sample", "seed"])
        "No option 'smaple'. Did you mean 'sample'?"
    """
    matches = get_close_matches(name, list(known), 1)
    return f" Did you mean {matches[0]!r}?" if matches else ""


@contextmanager
def wrap_errors(kind: type[OperaError], what: str) -> Iterator[None]:
    """Turns an error of code that is not of this package into one of this package, which names the code.

    Args:
        kind: The class of the new error.
        what: What may raise, such as ``"metric 'sharpness'"``.

    Example:
        >>> with wrap_errors(MetricError, "metric 'sharpness'"):
        ...     1 / 0
        Traceback (most recent call last):
            ...
        opera_env.errors.MetricError: metric 'sharpness' raised ZeroDivisionError: division by zero.
    """
    try:
        yield
    except (OperaError, MemoryError, BrokenPipeError):
        raise
    except Exception as error:
        message = error_message(error).rstrip(".")
        raise kind(f"{what} raised {type(error).__name__}: {message}.") from error


class PlanParseError(OperaError):
    """A text or an action array is not a plan.

    It differs from the empty plan, with which an agent decides to leave the image unchanged.
    """


class UnknownToolError(OperaError):
    """A plan names a tool that is not in the toolbox.

    Attributes:
        name: The unknown name.
    """

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(
            f"unknown tool {name!r}; this toolbox has {', '.join(known) or 'no tools'}. "
            "Use one of these, or add the tool with toolbox.add(name, network)."
        )
        self.name = name


class UnknownDegradationError(OperaError):
    """A recipe or a user names a degradation that the source or the toolbox does not know.

    Attributes:
        name: The unknown name.
    """

    def __init__(self, name: str, known: Sequence[str], remedy: str = "") -> None:
        super().__init__(f"unknown degradation {name!r}; use one of {', '.join(known)}{remedy}.")
        self.name = name


class UnknownPresetError(OperaError):
    """No toolbox, reward preset or agent has the name that was given."""

    def __init__(self, kind: str, name: str, known: Sequence[str]) -> None:
        super().__init__(f"unknown {kind} {name!r}; use one of {', '.join(known)}.")


class ToolFailedError(OperaError):
    """A tool raised, returned a wrong shape, or returned NaN or infinity.

    Attributes:
        tool: Name of the tool that failed.
        prefix: The tools of the plan before it.
        shape: Shape of the image that the tool was given, ``(3, H, W)``.
    """

    def __init__(self, tool: str, prefix: tuple[str, ...], shape: tuple[int, ...], reason: str):
        after = f"after {' > '.join(prefix)}" if prefix else "on the input image"
        super().__init__(
            f"tool {tool!r} failed {after}, image of shape {shape}: {reason}. "
            "Correct the tool, or leave it out with toolbox.subset(...)."
        )
        self.tool = tool
        self.prefix = prefix
        self.shape = shape


class ToolboxError(OperaError):
    """A toolbox folder or the definition of a tool cannot be used."""


class UntrustedCodeError(ToolboxError):
    """A toolbox folder names code, and whoever loads it has not said that the code may run."""


class ToolboxMismatchError(OperaError):
    """An environment, plan or agent was built for another list of tools."""


class MissingWeightsError(OperaError):
    """A weight file is absent.

    Attributes:
        path: Where the file is expected.
    """

    def __init__(self, what: str, path: Path, remedy: str) -> None:
        super().__init__(f"{what}: no file at {path}. Get it with: {remedy}")
        self.path = path


class MissingPackageError(OperaError):
    """A package is not installed that one of the extras of this package brings.

    Attributes:
        package: Name of the module that cannot be imported.
        extra: Name of the extra.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed: pip install 'opera-env[{extra}]'.")
        self.package = package
        self.extra = extra


class ClusterError(OperaError):
    """A cluster cannot be reached, or its workers die."""


class WeightsIntegrityError(OperaError):
    """A weight file exists, but its content is not the expected one.

    Attributes:
        expected: The expected hash or content.
        found: What was found instead.
    """

    def __init__(
        self, path: Path | str, expected: str, found: str, remedy: str = "delete it and fetch it again"
    ) -> None:
        super().__init__(
            f"{path}: expected {expected}, found {found}. "
            f"The file is damaged, or it is another file: {remedy}."
        )
        self.expected = expected
        self.found = found


class DownloadError(OperaError):
    """A file could not be downloaded from any of its addresses."""


class HubError(OperaError):
    """A folder cannot be pushed to a hub of models or pulled from it, or holds something else."""


class MetricError(OperaError):
    """A metric cannot be computed on the images that it was given."""


class SampleError(OperaError):
    """A sample cannot be made: the specification, the pair, the degradation or the folder is unusable."""


class ImageFileError(OperaError):
    """An image file cannot be read or written.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = Path(path)


class OutputError(OperaError):
    """A result cannot be written: its name is taken, or two results have the same name."""


class ResultsError(OperaError):
    """A file of results of an earlier comparison cannot be read."""


class MemoryLimitError(OperaError):
    """A photograph cannot be restored within the memory limit."""


class EnvArgumentError(OperaError):
    """An argument of an environment, or an option of its ``reset``, is unknown or has an unusable value."""


class DeviceError(OperaError):
    """The device of this name does not exist on this machine, or torch cannot use it."""


class TimeLimitError(OperaError):
    """A photograph cannot be restored within the time limit."""


class BusyError(OperaError):
    """A request cannot wait for its turn, because too many others wait already."""


class RewardError(OperaError):
    """A reward does not suit the environment."""


class AgentError(OperaError):
    """An agent cannot be found, or does not follow the protocol."""


class BudgetSpentError(OperaError):
    """A search asked for more tools than its budget has left; see :mod:`opera_env.budget`."""


class BenchError(OperaError):
    """A benchmark cannot be measured on this machine, or a file holds no results of benchmarks."""


class RunError(OperaError):
    """A run cannot start or resume: its folder is in use, or holds other settings or a damaged file."""


class SettingError(OperaError):
    """A setting has a value that cannot be used.

    Attributes:
        name: Name of the setting.
    """

    def __init__(self, name: str, value: object, expected: str) -> None:
        setting = f"--{name.replace('_', '-')} {value}".rstrip()
        super().__init__(f"{setting}: expected {expected}.")
        self.name = name


class ExecutionUpdateError(OperaError):
    """Tools cannot be trained under a plan: no reference, or a loss or gradient that is not finite."""


class EndpointError(OperaError):
    """A server of a model or tool cannot be reached, refuses a request, or answers something unexpected."""


class RequestError(OperaError):
    """A request to the scoring server is malformed."""


class JudgeError(OperaError):
    """A judge of reasoning answers neither yes nor no."""
