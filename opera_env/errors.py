"""One class a kind of failure.

Every message says what was expected, what was found and how to mend it. Catch
:class:`OperaError` to catch them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class OperaError(Exception):
    """Base class of every error this package raises on purpose."""


class PlanParseError(OperaError):
    """A text or an action array is not a plan.

    Distinct from the empty plan: an agent that answers nonsense has not asked
    to leave the image alone.
    """


class UnknownToolError(OperaError):
    """A plan names a tool that is not in the toolbox."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(
            f"unknown tool {name!r}; this toolbox has {', '.join(known) or 'no tools'}. "
            "Use one of these, or add the tool with toolbox.add(name, network)."
        )
        self.name = name


class UnknownDegradationError(OperaError):
    """A recipe names a degradation that does not exist."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"unknown degradation {name!r}; use one of {', '.join(known)}.")
        self.name = name


class UnknownPresetError(OperaError):
    """A toolbox, reward preset or agent is asked for by a name nobody has."""

    def __init__(self, kind: str, name: str, known: Sequence[str]) -> None:
        super().__init__(f"unknown {kind} {name!r}; use one of {', '.join(known)}.")


class ToolFailedError(OperaError):
    """A tool raised, returned a wrong shape, or returned NaN or infinity.

    Attributes:
        tool: Name of the tool that failed.
        prefix: The plan up to, not including, the tool.
        shape: Shape of the image the tool was given, ``(3, H, W)``.
    """

    def __init__(self, tool: str, prefix: tuple[str, ...], shape: tuple[int, ...], reason: str):
        after = f"after {' > '.join(prefix)}" if prefix else "on the input image"
        super().__init__(
            f"tool {tool!r} failed {after}, image of shape {shape}: {reason}. "
            "Mend the tool, or leave it out with toolbox.subset(...)."
        )
        self.tool = tool
        self.prefix = prefix
        self.shape = shape


class ToolboxError(OperaError):
    """A toolbox folder or a tool definition cannot be used as it is."""


class ToolboxMismatchError(OperaError):
    """An environment, plan or agent was built for another list of tools."""


class MissingWeightsError(OperaError):
    """A weight file is not where it belongs.

    Attributes:
        path: Where the file belongs.
    """

    def __init__(self, what: str, path: Path, remedy: str) -> None:
        super().__init__(f"{what}: no file at {path}. Get it with: {remedy}")
        self.path = path


class WeightsIntegrityError(OperaError):
    """A weight file is there but is not the file it should be."""

    def __init__(self, path: Path | str, expected: str, found: str) -> None:
        super().__init__(
            f"{path}: expected sha256 {expected}, found {found}. "
            "The file is damaged or another one: delete it and fetch it again."
        )


class DownloadError(OperaError):
    """A file could not be fetched from any of its places."""


class MetricError(OperaError):
    """A metric cannot be computed on what it was given."""


class SampleError(OperaError):
    """A sample cannot be made: bad specification, bad pair, no images."""


class ImageFileError(OperaError):
    """An image file cannot be read or written."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = Path(path)


class OutputError(OperaError):
    """A result has no place to go: the name is taken, or two results claim it."""


class MemoryLimitError(OperaError):
    """A photograph cannot be restored in the memory it is allowed."""


class RewardError(OperaError):
    """A reward does not suit the environment that was asked for."""


class AgentError(OperaError):
    """An agent cannot be found, or does not keep to the contract."""


class BenchError(OperaError):
    """A part of the benchmark cannot be measured here, or its file is no benchmark's."""


class ExecutionUpdateError(OperaError):
    """Tools cannot be trained under a plan: no reference, or a loss or gradient that is not finite."""


class EndpointError(OperaError):
    """A server that answers for a model stays away, refuses, or answers something else."""


class JudgeError(OperaError):
    """A judge of reasoning says neither yes nor no."""
