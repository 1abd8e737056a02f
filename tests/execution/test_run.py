"""Executor: with sharing, batches and caches, the images equal those of one plan at a time."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opera_env.data.images import resize
from opera_env.errors import UnknownToolError
from opera_env.execution import Executor, PrefixCache
from opera_env.tools import Tool, Toolbox

NAMES = ("tiny.conv", "tiny.odd", "tiny.invert", "tiny.halve", "tiny.global", "tiny.enlarge")
SIZES = ((12, 16), (12, 15), (7, 9), (16, 16), (3, 20), (20, 12))

plans = st.lists(st.sampled_from(NAMES), max_size=4).map(tuple)
# Seed, size, and the size of the canvas relative to the image (a factor, and pixels added to the height).
images = st.tuples(
    st.integers(0, 2), st.sampled_from(SIZES), st.sampled_from(((1, 0), (4, 0), (1, 3), (4, 1)))
)
jobs = st.lists(st.tuples(images, plans), min_size=1, max_size=14)


def _samples(make_sample: Any, parameters: list[Any]) -> list[Any]:
    return [
        make_sample(seed, size, (size[0] * factor + extra, size[1] * factor))
        for seed, size, (factor, extra) in parameters
    ]


@settings(max_examples=60, deadline=None)
@given(
    jobs=jobs,
    batch_pixels=st.sampled_from((1, 500, 3000, 10**6)),
    max_live_pixels=st.sampled_from((0, 2000, 10**7)),
    cache_bytes=st.sampled_from((None, 0, 5000, 2**24)),
)
def test_results_equal_one_plan_at_a_time(
    make_toolbox: Any,
    make_sample: Any,
    reference_execute: Any,
    edges: Any,
    jobs: list[Any],
    batch_pixels: int,
    max_live_pixels: int,
    cache_bytes: int | None,
) -> None:
    toolbox = make_toolbox()
    samples = _samples(make_sample, [image for image, _ in jobs])
    chosen = [plan for _, plan in jobs]
    cache = None if cache_bytes is None else PrefixCache(cache_bytes)
    executor = Executor(toolbox, batch_pixels, max_live_pixels, cache)
    expected_results = {(sample.key, plan): sample for sample, plan in zip(samples, chosen, strict=True)}
    needed = len(edges(samples, chosen))

    for repeat in range(1 if cache is None else 2):
        before = executor.tools_run
        actual = []
        for result in executor.run(samples, chosen):
            actual.append((result.sample.key, result.plan))
            sample = expected_results[actual[-1]]
            expected = reference_execute(toolbox, sample.lq.clone(), sample.canvas, result.plan)
            assert result.image.dtype == torch.float32
            assert result.image.shape == expected.shape
            assert (result.image - expected).abs().max() <= 1e-4
        assert len(actual) == len(set(actual)), "no result is yielded twice"
        assert set(actual) == set(expected_results)
        ran = executor.tools_run - before
        assert ran == needed if repeat == 0 else ran <= needed


def test_inputs_are_not_changed(make_toolbox: Any, make_sample: Any) -> None:
    sample = make_sample(1)
    before = sample.lq.clone()
    chosen = [(), *product(NAMES, repeat=1), *product(NAMES, repeat=2)]
    list(Executor(make_toolbox()).run([sample] * len(chosen), chosen))
    assert torch.equal(sample.lq, before)


def test_equal_images_share_their_work(make_toolbox: Any, make_sample: Any) -> None:
    executor = Executor(make_toolbox())
    twins = [make_sample(5), make_sample(5)]
    results = list(executor.run(twins, [("tiny.conv", "tiny.odd")] * 2))
    assert len(results) == 1
    assert executor.tools_run == 2
    # Equal pixels with another canvas are another sample, since tools that upscale treat it differently.
    other_sample = make_sample(5, canvas=(48, 64))
    results = list(executor.run([twins[0], other_sample], [("tiny.enlarge",)] * 2))
    assert sorted(tuple(result.image.shape[-2:]) for result in results) == [(12, 16), (48, 64)]


def test_equal_work_is_batched(make_sample: Any, recorder: Any) -> None:
    tool = recorder(lambda image: image * 0.9)
    executor = Executor(Toolbox().add("one", tool), batch_pixels=4 * 12 * 16)
    samples = [make_sample(seed) for seed in range(9)]
    list(executor.run(samples, [("one",)] * 9))
    assert sorted(shape[0] for shape in tool.batches) == [1, 4, 4]

    tool.batches.clear()
    large = [make_sample(seed, (40, 40)) for seed in range(2)]
    list(executor.run(large, [("one",)] * 2))
    assert [shape[0] for shape in tool.batches] == [1, 1], "a larger image is a batch of its own"


def test_prefixes_are_shared_across_plans(make_sample: Any, recorder: Any) -> None:
    tools = {name: recorder(lambda image: image * 0.9 + 0.01) for name in "abcd"}
    toolbox = Toolbox([Tool(name, tool) for name, tool in tools.items()])
    executor = Executor(toolbox)
    all_plans = [plan for length in range(5) for plan in product("abcd", repeat=length)]
    assert len(list(executor.run([make_sample()] * len(all_plans), all_plans))) == 341
    assert executor.tools_run == 340
    assert {name: tool.images for name, tool in tools.items()} == dict.fromkeys("abcd", 85)


@pytest.mark.parametrize(
    ("size", "canvas", "plan", "expected"),
    [
        ((8, 8), (32, 32), ("tiny.enlarge",), (32, 32)),
        ((8, 8), (32, 32), ("tiny.enlarge", "tiny.enlarge"), (32, 32)),  # upscales once
        ((8, 8), (33, 32), ("tiny.enlarge", "tiny.enlarge"), (128, 128)),  # one pixel short after the first
        ((8, 8), (8, 8), ("tiny.enlarge",), (8, 8)),
        ((8, 8), (9, 8), ("tiny.enlarge",), (32, 32)),
        ((8, 8), (8, 9), ("tiny.conv", "tiny.enlarge"), (32, 32)),
        ((9, 9), (8, 8), ("tiny.enlarge",), (9, 9)),
        ((7, 9), (28, 36), ("tiny.enlarge",), (28, 36)),  # padded to 8 x 10 and cropped
        ((7, 9), (7, 9), ("tiny.enlarge", "tiny.invert"), (7, 9)),
    ],
)
def test_canvas_rule(
    make_toolbox: Any, make_sample: Any, size: Any, canvas: Any, plan: Any, expected: Any
) -> None:
    (result,) = Executor(make_toolbox()).run([make_sample(0, size, canvas)], [plan])
    assert tuple(result.image.shape) == (3, *expected)


def test_upscaling_at_constant_size_downscales_the_result(make_toolbox: Any, make_sample: Any) -> None:
    toolbox = make_toolbox()
    sample, larger = make_sample(0, (12, 16)), make_sample(0, (12, 16), (48, 64))
    (constant,) = Executor(toolbox).run([sample], [("tiny.enlarge",)])
    (upscaled,) = Executor(toolbox).run([larger], [("tiny.enlarge",)])
    torch.testing.assert_close(constant.image, resize(upscaled.image[None], (12, 16))[0], atol=1e-5, rtol=0)


def test_images_between_tools_are_not_clamped_or_rounded(make_sample: Any) -> None:
    toolbox = (
        Toolbox().add("up", lambda image: image * 8 - 3.3).add("down", lambda image: (image + 3.3) / 8)
    )
    sample = make_sample()
    (result,) = Executor(toolbox).run([sample], [("up", "down")])
    torch.testing.assert_close(result.image, sample.lq, atol=1e-5, rtol=0)


def test_an_unknown_tool_raises_before_any_tool_runs(make_sample: Any, recorder: Any) -> None:
    tool = recorder(lambda image: image)
    executor = Executor(Toolbox().add("known", tool))
    with pytest.raises(UnknownToolError, match=r"unkown.*known") as caught:
        list(executor.run([make_sample()] * 2, [("known",), ("known", "unkown")]))
    assert caught.value.name == "unkown"
    assert tool.batches == []
    assert executor.tools_run == 0


def test_different_numbers_of_samples_and_plans_raise(make_toolbox: Any, make_sample: Any) -> None:
    with pytest.raises(ValueError, match="zip"):
        list(Executor(make_toolbox()).run([make_sample()], [(), ()]))


def test_no_plans_give_no_results(make_toolbox: Any) -> None:
    assert list(Executor(make_toolbox()).run([], [])) == []


def test_results_of_half_precision_networks_are_float32(make_sample: Any) -> None:
    toolbox = Toolbox().add("half", lambda image: image.half())
    (result,) = Executor(toolbox).run([make_sample()], [("half",)])
    assert result.image.dtype == torch.float32
