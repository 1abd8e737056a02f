"""ToolRunner: failures name the tool, the prefix and the shape; batches are halved if memory runs out."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from opera_env.errors import ToolFailedError
from opera_env.execution import Executor, tool_runner
from opera_env.tools import Toolbox

SIDE = 16
PIXELS = SIDE * SIDE


def _marked(image: Tensor) -> Tensor:
    """Tells which images of a batch are marked by a first pixel above 2."""
    return image[:, 0, 0, 0] > 2


def _raises(image: Tensor) -> Tensor:
    if _marked(image).any():
        raise KeyError("no such layer")
    return image + 0.01


def _inserts(value: float) -> Callable[[Tensor], Tensor]:
    def restore(image: Tensor) -> Tensor:
        result = image + 0.01
        result[_marked(image), 1, 2, 3] = value
        return result

    return restore


def _inserts_both_infinities(image: Tensor) -> Tensor:
    result = image + 0.01
    result[_marked(image), 1, 2, 3] = float("inf")
    result[_marked(image), 1, 2, 4] = float("-inf")
    return result


def _wrong_shape(image: Tensor) -> Tensor:
    return image[..., :-1] if _marked(image).any() else image + 0.01


FAILURES = [
    pytest.param(_raises, "KeyError.*no such layer", id="raises"),
    pytest.param(_inserts(float("nan")), "NaN", id="nan"),
    pytest.param(_inserts(float("inf")), "infinity", id="inf"),
    pytest.param(_inserts(float("-inf")), "infinity", id="-inf"),
    pytest.param(_inserts_both_infinities, "infinity", id="both infinities"),
    pytest.param(_wrong_shape, "shape", id="shape"),
]


@pytest.mark.parametrize(("restore", "reason"), FAILURES)
@pytest.mark.parametrize("position", [0, 3, 7])
def test_the_failure_names_the_right_image_of_a_batch(
    make_sample: Any, restore: Any, reason: str, position: int
) -> None:
    """One of eight images in a batch makes the tool fail; the images differ in their prefix."""
    toolbox = Toolbox()
    prefixes = []
    for number in range(8):
        # Every image reaches the failing tool through another tool; one of these marks the image.
        mark = 5.0 if number == position else 0.0
        name = f"way{number}"
        toolbox.add(name, lambda image, mark=mark, number=number: image * (1 - number / 100) + mark)
        prefixes.append((name,))
    toolbox.add("bad", restore)
    sample = make_sample(0, (12, 16))
    executor = Executor(toolbox)
    with pytest.raises(ToolFailedError, match=reason) as caught:
        list(executor.run([sample] * 8, [(*prefix, "bad") for prefix in prefixes]))
    assert caught.value.tool == "bad"
    assert caught.value.prefix == (f"way{position}",)
    assert caught.value.shape == (3, 12, 16)
    for word in ("'bad'", f"way{position}", "(3, 12, 16)", "toolbox.subset"):
        assert word in str(caught.value)


def test_the_shape_is_the_image_given_to_the_tool(make_sample: Any) -> None:
    """The reported shape is that of the tool's input, not of the sample and not of the padded image."""

    def enlarge(image: Tensor) -> Tensor:
        return image.repeat_interleave(4, dim=-2).repeat_interleave(4, dim=-1) + 3

    toolbox = Toolbox().add("larger", enlarge, scale=4).add("bad", _raises, multiple=32)
    sample = make_sample(0, (7, 9), canvas=(28, 36))
    with pytest.raises(ToolFailedError) as caught:
        list(Executor(toolbox).run([sample], [("larger", "bad")]))
    assert caught.value.shape == (3, 28, 36)
    assert caught.value.prefix == ("larger",)


@pytest.mark.parametrize("answer", [None, "image", torch.zeros(3, 12, 16), torch.zeros(1, 1, 12, 16)])
def test_a_result_that_is_not_an_image_batch_is_a_failure(make_sample: Any, answer: Any) -> None:
    toolbox = Toolbox().add("odd", lambda image: answer)
    with pytest.raises(ToolFailedError, match="expected a result of shape") as caught:
        list(Executor(toolbox).run([make_sample(0, (12, 16))], [("odd",)]))
    assert caught.value.prefix == ()
    assert "on the input image" in str(caught.value)


def test_a_tool_that_fails_on_batches_runs_on_single_images(make_sample: Any, recorder: Any) -> None:
    def alone(image: Tensor) -> Tensor:
        if len(image) > 1:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
        return image * 0.5

    tool = recorder(alone)
    executor = Executor(Toolbox().add("alone", tool))
    samples = [make_sample(seed) for seed in range(5)]
    results = list(executor.run(samples, [("alone",)] * 5))
    assert len(results) == executor.tools_run == 5
    for result in results:
        torch.testing.assert_close(result.image, result.sample.lq * 0.5, atol=1e-6, rtol=0)


def test_large_finite_values_are_not_a_failure(make_sample: Any) -> None:
    """The sum over the batch overflows float32, but every pixel is finite."""
    toolbox = Toolbox().add("loud", lambda image: image * 0 + 3e38)
    (result,) = Executor(toolbox).run([make_sample()], [("loud",)])
    assert result.image.isfinite().all()


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_is_not_a_tool_failure(make_sample: Any, interrupt: type[BaseException]) -> None:
    def restore(image: Tensor) -> Tensor:
        raise interrupt

    with pytest.raises(interrupt):
        list(Executor(Toolbox().add("slow", restore)).run([make_sample()], [("slow",)]))


def test_results_before_a_failure_are_yielded(make_sample: Any) -> None:
    toolbox = Toolbox().add("good", lambda image: image + 9).add("bad", _inserts(float("nan")))
    sample = make_sample()
    stream = Executor(toolbox).run([sample] * 2, [("good",), ("good", "bad")])
    assert next(stream).plan == ("good",)
    with pytest.raises(ToolFailedError):
        next(stream)


# Out of memory


def _greedy(error: type[Exception], message: str, largest: int) -> Any:
    def restore(image: Tensor) -> Tensor:
        if len(image) > largest:
            raise error(message)
        return image * 0.5

    return restore


OUT_OF_MEMORY = [
    pytest.param(torch.OutOfMemoryError, "CUDA out of memory. Tried to allocate 2.00 GiB.", id="cuda"),
    pytest.param(MemoryError, "", id="python"),
    pytest.param(
        RuntimeError,
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you "
        "tried to allocate 4503599627370496 bytes. Error code 12 (Cannot allocate memory)",
        id="torch-linux",
    ),
    pytest.param(
        RuntimeError,
        "[enforce fail at alloc_cpu.cpp:116] data. DefaultCPUAllocator: not enough memory: you tried to "
        "allocate 4503599627370496 bytes.",
        id="torch-windows",
    ),
]


@pytest.mark.parametrize(("error", "message"), OUT_OF_MEMORY)
def test_out_of_memory_halves_the_batch(
    make_sample: Any, recorder: Any, error: type[Exception], message: str
) -> None:
    tool = recorder(_greedy(error, message, largest=2))
    executor = Executor(Toolbox().add("greedy", tool), batch_pixels=16 * PIXELS)
    samples = [make_sample(seed, (SIDE, SIDE)) for seed in range(32)]
    for result in executor.run(samples, [("greedy",)] * 32):
        torch.testing.assert_close(result.image, result.sample.lq * 0.5, atol=1e-6, rtol=0)
    assert executor.tools_run == 32, "only successful applications count"
    sizes = [shape[0] for shape in tool.batches]
    assert sizes.count(16) == 1, "later batches are small too"
    assert sorted(set(sizes), reverse=True) == [16, 8, 4, 2]
    assert executor.tool_runner.batch_pixels == 2 * PIXELS

    tool.batches.clear()
    list(executor.run([make_sample(seed, (SIDE, SIDE)) for seed in range(50, 54)], [("greedy",)] * 4))
    assert [shape[0] for shape in tool.batches] == [2, 2], "and so are those of the next call"


def test_the_message_of_this_torch_version_is_recognised() -> None:
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        torch.empty(2**55, dtype=torch.uint8)
    assert tool_runner._is_out_of_memory(caught.value)


@pytest.mark.parametrize(("error", "message"), OUT_OF_MEMORY)
def test_out_of_memory_on_a_single_image_is_a_failure_of_the_tool(
    make_sample: Any, error: type[Exception], message: str
) -> None:
    toolbox = Toolbox().add("fine", lambda image: image).add("huge", _greedy(error, message, largest=0))
    executor = Executor(toolbox)
    samples = [make_sample(seed, (SIDE, SIDE)) for seed in range(4)]
    with pytest.raises(ToolFailedError, match=error.__name__) as caught:
        list(executor.run(samples, [("fine", "huge")] * 4))
    assert (caught.value.tool, caught.value.prefix, caught.value.shape) == (
        "huge",
        ("fine",),
        (3, SIDE, SIDE),
    )


def test_a_failed_attempt_is_freed_before_the_next(make_sample: Any) -> None:
    """An exception that is being handled keeps its frames, and these keep the activations.

    A smaller batch that runs inside the handler would therefore find the memory still full.
    """
    held: list[weakref.ref[Tensor]] = []
    left_over: list[int] = []

    def restore(image: Tensor) -> Tensor:
        left_over.append(sum(reference() is not None for reference in held))
        activation = image.repeat(1, 8, 1, 1)
        held.append(weakref.ref(activation))
        if len(image) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return activation[:, :3]

    executor = Executor(Toolbox().add("greedy", restore))
    samples = [make_sample(seed, (SIDE, SIDE)) for seed in range(8)]
    assert len(list(executor.run(samples, [("greedy",)] * 8))) == 8
    assert left_over == [0] * len(left_over)
