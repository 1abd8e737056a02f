"""Executor with a limit of the memory for weights: the same bits, within it, with the next tool at hand."""

from __future__ import annotations

import weakref
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from opera_env.execution import Executor, PrefixCache, WorkerPool
from opera_env.tools import Tool, Toolbox
from opera_env.tools.residency import Residency
from opera_env.tools.weight_block import WeightBlock

SIZES = {"a": 3, "b": 5, "c": 7, "d": 9}
"""Sides of the kernels: the tools differ in size."""


class Recorder(Residency):
    """Records what is brought to the device, ahead of time or not, and the bytes of all copies there."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__("cpu", max_bytes)
        self.prefetched: list[str] = []
        self.copied: list[str] = []
        self.most_bytes = 0
        self._copies: weakref.WeakSet[Tensor] = weakref.WeakSet()

    def prefetch(self, tool: Tool) -> None:
        self.prefetched.append(tool.name)
        super().prefetch(tool)

    def _copy_to_device(self, block: WeightBlock) -> Tensor:
        copy = super()._copy_to_device(block)
        self.copied.append(block.name)
        self._copies.add(copy)
        self.most_bytes = max(self.most_bytes, sum(other.nbytes for other in self._copies))
        return copy


def make_toolbox() -> Toolbox:
    toolbox = Toolbox()
    for name, side in SIZES.items():
        torch.manual_seed(side)
        toolbox.add(name, nn.Conv2d(3, 3, side, padding=side // 2))
    return toolbox.add("halve", lambda image: image / 2)


@pytest.fixture
def samples(make_sample: Any) -> list[Any]:
    return [make_sample(seed) for seed in range(3)]


@pytest.mark.parametrize("num_workers", [1, 3])
def test_results_are_the_same_bits_within_the_limit(samples: list[Any], num_workers: int) -> None:
    plans = [plan for length in range(4) for plan in product((*SIZES, "halve"), repeat=length)]
    work = [samples[index % 3] for index in range(len(plans))], plans
    expected, limited = make_toolbox(), make_toolbox()
    residency = Recorder(4096)  # the largest tool has 3,328 bytes, all of them 8,960
    limited.limit_memory(residency)
    with WorkerPool(num_workers) as pool:
        without, within = (
            [(result.plan, result.image) for result in Executor(box, 3000).run(*work, pool)]
            for box in (expected, limited)
        )
    assert [plan for plan, _ in without] == [plan for plan, _ in within]
    assert all(torch.equal(one, other) for (_, one), (_, other) in zip(without, within, strict=True))
    assert set(residency.copied) == set(SIZES) and residency.most_bytes <= 4096
    assert not any(block.users for block in residency._on_device)


def test_the_next_tool_of_a_plan_is_brought_meanwhile(samples: list[Any]) -> None:
    toolbox = make_toolbox()
    residency = Recorder(10**6)
    toolbox.limit_memory(residency)
    plan = ("c", "a", "a", "halve", "d", "b")
    list(Executor(toolbox).run(samples[:1], [plan]))
    assert residency.prefetched == ["a", "halve", "d", "b"]
    assert residency.copied == ["c", "a", "d", "b"] and residency.resident == ("c", "a", "d", "b")


def test_tools_that_stay_are_not_copied_again(samples: list[Any]) -> None:
    toolbox = make_toolbox()
    residency = Recorder(10**6)
    executor = Executor(toolbox.limit_memory(residency), cache=PrefixCache())
    for _ in range(2):
        list(executor.run(samples, [("a", "b"), ("b", "a"), ("c",)]))
    assert sorted(residency.copied) == ["a", "b", "c"]


def test_a_tool_that_fails_does_not_stay_in_use(samples: list[Any]) -> None:
    toolbox = make_toolbox().add("wrong", nn.Conv2d(3, 2, 1))
    residency = Recorder(4096)
    executor = Executor(toolbox.limit_memory(residency))
    with pytest.raises(Exception, match="expected a result of shape"):
        list(executor.run(samples, [("wrong",)] * 3))
    for name in SIZES:
        list(executor.run(samples[:1], [(name,)]))
    assert residency.resident == ("d",)
