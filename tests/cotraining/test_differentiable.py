"""Plans with gradients lead to the same images as without, and memory is saved without changing them."""

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
    toolbox: Toolbox, samples: list[Sample], plans: list[Plan], mode: Any = "auto"
) -> DifferentiablePlans:
    images = [sample.lq for sample in samples]
    return DifferentiablePlans(toolbox, images, plans, [sample.canvas for sample in samples], mode)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plans=plans_of_four)
def test_the_results_are_the_executors(toolbox: Toolbox, samples: list[Sample], plans: list[Plan]) -> None:
    wanted = {(one.sample.key, one.plan): one.image for one in Executor(toolbox).run(samples, plans)}
    for sample, plan, image in zip(samples, plans, _run(toolbox, samples, plans).results, strict=True):
        torch.testing.assert_close(image, wanted[sample.key, plan], rtol=0, atol=1e-5)


def _gradients(toolbox: Toolbox) -> list[torch.Tensor | None]:
    return [
        parameter.grad
        for tool in toolbox
        if tool.module is not None
        for parameter in tool.module.parameters()
    ]


@pytest.mark.parametrize("mode", ["never", "auto", "always"])
@pytest.mark.parametrize("seed", range(4))
def test_the_gradients_are_torchs(
    mode: str, seed: int, make_trainable_toolbox: Callable[[], Toolbox], samples: list[Sample]
) -> None:
    rng = np.random.default_rng(seed)
    plans: list[Plan] = [tuple(rng.choice(NAMES, length)) for length in rng.permutation(5)[:4]]
    ours, plain = make_trainable_toolbox(), make_trainable_toolbox()
    chains = _run(ours, samples, plans, mode)
    torch.stack([(image**2).mean() for image in chains.results]).sum().backward()
    chains.backward()
    for sample, plan in zip(samples, plans, strict=True):
        image = sample.lq[None]
        for name in plan:
            image = plain[name](image, sample.canvas)
        if image.requires_grad:
            (image**2).mean().backward()
    found, wanted = _gradients(ours), _gradients(plain)
    assert any(one is not None for one in wanted)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-6)


def test_an_unknown_tool_is_refused(toolbox: Toolbox, samples: list[Sample]) -> None:
    with pytest.raises(UnknownToolError, match="nobody"):
        _run(toolbox, samples[:1], [("nobody",)])


@pytest.mark.parametrize("mode", ["auto", "always"])
def test_a_tool_that_lets_no_gradients_through_is_named(
    mode: str, toolbox: Toolbox, samples: list[Sample]
) -> None:
    toolbox.add("tiny.steps", lambda image: (image.detach() * 255).round() / 255)

    def learn(plan: Plan) -> None:
        chains = _run(toolbox, samples[:1], [plan], mode)
        chains.results[0].sum().backward()
        chains.backward()

    learn(("tiny.steps", "tiny.first"))
    with pytest.raises(ToolFailedError, match=r"tiny\.steps.*no gradients"):
        learn(("tiny.first", "tiny.steps"))


def test_a_tool_that_fails_is_named_with_its_plan(toolbox: Toolbox, samples: list[Sample]) -> None:
    toolbox.add("tiny.narrow", lambda image: image[..., 1:])
    with pytest.raises(ToolFailedError, match=r"narrow.*after tiny\.first.*expected a result"):
        _run(toolbox, samples[:1], [("tiny.first", "tiny.narrow")])


class WritesIntoItsInput(nn.Conv2d):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return super().forward(image.mul_(0.5))


@pytest.mark.parametrize("mode", ["never", "auto", "always"])
def test_a_tool_may_write_into_what_it_is_given(
    mode: str, make_trainable_toolbox: Callable[[], Toolbox], samples: list[Sample]
) -> None:
    gradients = []
    for way in (mode, "never"):
        torch.manual_seed(0)
        toolbox = make_trainable_toolbox().add("tiny.writes", WritesIntoItsInput(3, 3, 3, padding=1))
        before = samples[0].lq.clone()
        chains = _run(toolbox, samples[:1], [("tiny.writes", "tiny.first")], way)
        chains.results[0].square().mean().backward()
        chains.backward()
        assert torch.equal(samples[0].lq, before)
        gradients.append([parameter.grad for parameter in toolbox["tiny.writes"].parameters])
    torch.testing.assert_close(*gradients)


def test_gradients_are_let_go(toolbox: Toolbox, samples: list[Sample]) -> None:
    chains = _run(toolbox, samples, [("tiny.first", "tiny.second")] * 4, "never")
    torch.stack([image.mean() for image in chains.results]).sum().backward()
    kept = weakref.ref(chains._stages[0])
    chains.backward()
    assert kept() is None
