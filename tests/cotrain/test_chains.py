"""Plans with gradients lead to the same images as without, and memory is saved without changing them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opera_env.cotrain.chains import run_chains
from opera_env.errors import ToolFailedError, UnknownToolError
from opera_env.execution import Executor
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample

NAMES = ("tiny.first", "tiny.second", "tiny.enlarge", "tiny.brighten")
plans_of_four = st.lists(st.lists(st.sampled_from(NAMES), max_size=5).map(tuple), min_size=4, max_size=4)


def _run(toolbox: Toolbox, samples: list[Sample], plans: list[Plan], mode: str) -> list[torch.Tensor]:
    images = [sample.lq for sample in samples]
    return run_chains(toolbox, images, plans, [sample.canvas for sample in samples], mode)  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plans=plans_of_four)
def test_the_results_are_the_executors(toolbox: Toolbox, samples: list[Sample], plans: list[Plan]) -> None:
    wanted = {(one.sample.key, one.plan): one.image for one in Executor(toolbox).run(samples, plans)}
    for sample, plan, image in zip(samples, plans, _run(toolbox, samples, plans, "auto"), strict=True):
        torch.testing.assert_close(image, wanted[sample.key, plan], rtol=0, atol=1e-5)


@pytest.mark.parametrize("mode", ["auto", "always"])
def test_what_is_computed_again_gives_the_same_gradients(
    mode: str, make_trainable: Callable[[], Toolbox], samples: list[Sample]
) -> None:
    plans: list[Plan] = [NAMES, ("tiny.first",) * 3, ("tiny.brighten", "tiny.second"), ()]

    def gradients(mode: str) -> list[torch.Tensor]:
        toolbox = make_trainable()
        torch.stack([image.mean() for image in _run(toolbox, samples, plans, mode)]).sum().backward()
        return [
            parameter.grad
            for tool in toolbox
            if tool.module is not None
            for parameter in tool.module.parameters()
            if parameter.grad is not None
        ]

    kept, again = gradients("never"), gradients(mode)
    assert len(kept) == len(again) > 0
    torch.testing.assert_close(again, kept, rtol=1e-4, atol=1e-7)


def test_an_unknown_tool_is_refused(toolbox: Toolbox, samples: list[Sample]) -> None:
    with pytest.raises(UnknownToolError, match="nobody"):
        _run(toolbox, samples[:1], [("nobody",)], "auto")


def test_a_tool_that_lets_no_gradients_through_is_named(toolbox: Toolbox, samples: list[Sample]) -> None:
    toolbox.add("tiny.steps", lambda image: (image.detach() * 255).round() / 255)
    assert len(_run(toolbox, samples[:1], [("tiny.steps", "tiny.first")], "auto")) == 1
    with pytest.raises(ToolFailedError, match=r"tiny\.steps.*no gradients"):
        _run(toolbox, samples[:1], [("tiny.first", "tiny.steps")], "auto")
