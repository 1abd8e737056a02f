"""Differentiable plans: results equal the executor's, gradients equal torch's, with any checkpointing."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from opera_env.cotraining.differentiable import DifferentiablePlans
from opera_env.errors import ToolFailedError, UnknownToolError
from opera_env.execution import Executor
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample

NAMES = ("tiny.first", "tiny.second", "tiny.enlarge", "tiny.brighten")
plans_of_four = st.lists(st.lists(st.sampled_from(NAMES), max_size=5).map(tuple), min_size=4, max_size=4)


def _run(
    toolbox: Toolbox, samples: list[Sample], plans: list[Plan], checkpointing: Any = "auto"
) -> DifferentiablePlans:
    images = [sample.lq for sample in samples]
    return DifferentiablePlans(toolbox, images, plans, [sample.canvas for sample in samples], checkpointing)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plans=plans_of_four)
def test_results_equal_those_of_the_executor(
    toolbox: Toolbox, samples: list[Sample], plans: list[Plan]
) -> None:
    expected = {(done.sample.key, done.plan): done.image for done in Executor(toolbox).run(samples, plans)}
    for sample, plan, image in zip(samples, plans, _run(toolbox, samples, plans).results, strict=True):
        torch.testing.assert_close(image, expected[sample.key, plan], rtol=0, atol=1e-5)


def _gradients(toolbox: Toolbox) -> list[torch.Tensor | None]:
    return [
        parameter.grad
        for tool in toolbox
        if tool.module is not None
        for parameter in tool.module.parameters()
    ]


@pytest.mark.parametrize("checkpointing", ["never", "auto", "always"])
@pytest.mark.parametrize("seed", range(4))
def test_gradients_equal_those_of_plain_torch(
    checkpointing: str, seed: int, make_trainable_toolbox: Callable[[], Toolbox], samples: list[Sample]
) -> None:
    rng = np.random.default_rng(seed)
    plans: list[Plan] = [tuple(rng.choice(NAMES, length)) for length in rng.permutation(5)[:4]]
    toolbox, plain_toolbox = make_trainable_toolbox(), make_trainable_toolbox()
    executed = _run(toolbox, samples, plans, checkpointing)
    torch.stack([(image**2).mean() for image in executed.results]).sum().backward()
    executed.backward()
    for sample, plan in zip(samples, plans, strict=True):
        image = sample.lq[None]
        for name in plan:
            image = plain_toolbox[name](image, sample.canvas)
        if image.requires_grad:
            (image**2).mean().backward()
    actual, expected = _gradients(toolbox), _gradients(plain_toolbox)
    assert any(gradient is not None for gradient in expected)
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-6)


def test_an_unknown_tool_is_refused(toolbox: Toolbox, samples: list[Sample]) -> None:
    with pytest.raises(UnknownToolError, match=r"tiny\.unknown"):
        _run(toolbox, samples[:1], [("tiny.unknown",)])


@pytest.mark.parametrize("checkpointing", ["auto", "always"])
def test_the_error_names_a_tool_that_is_not_differentiable(
    checkpointing: str, toolbox: Toolbox, samples: list[Sample]
) -> None:
    toolbox.add("tiny.steps", lambda image: (image.detach() * 255).round() / 255)

    def backward(plan: Plan) -> None:
        executed = _run(toolbox, samples[:1], [plan], checkpointing)
        executed.results[0].sum().backward()
        executed.backward()

    backward(("tiny.steps", "tiny.first"))
    with pytest.raises(ToolFailedError, match=r"tiny\.steps.*not differentiable"):
        backward(("tiny.first", "tiny.steps"))


def test_the_error_names_a_failing_tool_and_its_plan(toolbox: Toolbox, samples: list[Sample]) -> None:
    toolbox.add("tiny.narrow", lambda image: image[..., 1:])
    with pytest.raises(ToolFailedError, match=r"narrow.*after tiny\.first.*expected a result"):
        _run(toolbox, samples[:1], [("tiny.first", "tiny.narrow")])


class WritesIntoItsInput(nn.Conv2d):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return super().forward(image.mul_(0.5))


@pytest.mark.parametrize("checkpointing", ["never", "auto", "always"])
def test_a_tool_may_write_into_its_input(
    checkpointing: str, make_trainable_toolbox: Callable[[], Toolbox], samples: list[Sample]
) -> None:
    gradients = []
    for mode in (checkpointing, "never"):
        torch.manual_seed(0)
        toolbox = make_trainable_toolbox().add("tiny.writes", WritesIntoItsInput(3, 3, 3, padding=1))
        before = samples[0].lq.clone()
        executed = _run(toolbox, samples[:1], [("tiny.writes", "tiny.first")], mode)
        executed.results[0].square().mean().backward()
        executed.backward()
        assert torch.equal(samples[0].lq, before)
        gradients.append([parameter.grad for parameter in toolbox["tiny.writes"].parameters])
    torch.testing.assert_close(*gradients)


def test_graphs_are_freed_by_backward(toolbox: Toolbox, samples: list[Sample]) -> None:
    executed = _run(toolbox, samples, [("tiny.first", "tiny.second")] * 4, "never")
    torch.stack([image.mean() for image in executed.results]).sum().backward()
    tool_step = weakref.ref(executed._tool_steps[0])
    executed.backward()
    assert tool_step() is None
