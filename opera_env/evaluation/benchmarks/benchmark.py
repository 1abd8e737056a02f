"""A benchmark: a source of samples, and the list of those that agents are evaluated on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from opera_env.data import Source
from opera_env.data.images import to_array
from opera_env.data.sources.content import image_sha256
from opera_env.degradations import benchmark_group
from opera_env.errors import SampleError
from opera_env.types import Sample, SampleSpec

CLEAN = "clean"
"""The combination of samples that nothing has degraded."""

UNKNOWN = "unknown"
"""The combination of samples whose degradations are not known."""


@dataclass(frozen=True)
class BenchmarkSample:
    """One sample of a benchmark.

    Attributes:
        spec: Its specification.
        group: Its group in the tables; empty if it has none.
        combination: Its degradations joined by "+", or :data:`CLEAN` or :data:`UNKNOWN`.
        input: Digest that the degraded image must have; empty if any image will do.
    """

    spec: SampleSpec
    group: str
    combination: str
    input: str = ""


@dataclass(frozen=True)
class Benchmark:
    """A named list of samples of one source.

    Attributes:
        name: Its name, with the version if it has one.
        source: Makes the samples.
        samples: The samples.
        agents: The agents that are evaluated if none are named.
        remedy: What to do if a degraded image is not the one that it must be.
    """

    name: str
    source: Source
    samples: tuple[BenchmarkSample, ...]
    agents: tuple[str, ...] = ()
    remedy: str = "use the same images and versions of packages"

    def make(self, sample: BenchmarkSample) -> Sample:
        """Makes a sample.

        Images that are known by their content may be in a folder of another name.

        Raises:
            SampleError: If the source cannot make it, or the degraded image is another one.
        """
        spec = sample.spec
        made = self.source.make(replace(spec, source=self.source.name) if spec.sha256 else spec)
        made = replace(made, spec=spec)
        if sample.input and (found := image_digest(made.lq)) != sample.input:
            raise SampleError(
                f"{self.name}, {sample.combination} of {sample.spec.image}: expected the degraded image "
                f"{sample.input[:12]}..., found {found[:12]}...: {self.remedy}."
            )
        return made


def describe(specs: Iterable[SampleSpec], empty: str = UNKNOWN) -> tuple[BenchmarkSample, ...]:
    """Returns samples with their groups and combinations, as their recipes tell.

    Args:
        specs: The specifications.
        empty: The combination of an empty recipe.
    """
    return tuple(
        BenchmarkSample(spec, benchmark_group(spec.recipe) or "", "+".join(spec.recipe) or empty)
        for spec in specs
    )


def image_digest(image: object) -> str:
    """Returns the SHA-256 of the pixels of an image, float32 (3, H, W) in [0, 1], as 8 bits."""
    return image_sha256(to_array(image))  # pyright: ignore[reportArgumentType]


def rotate(items: Sequence[SampleSpec], first: int, count: int) -> list[SampleSpec]:
    """Returns ``count`` items in turn, from item ``first`` on and from the beginning again.

    Example:
        >>> rotate("abc", 2, 2)
        ['c', 'a']
    """
    return [items[(first + number) % len(items)] for number in range(count)]
