"""PrefixCache: identical bits, bounded size, and no images of earlier weights."""

from __future__ import annotations

import pickle
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor

from opera_env.execution import Executor, PrefixCache
from opera_env.tools import Toolbox

IMAGE = 3 * 8 * 8 * 4
"""Bytes of a (3, 8, 8) image."""


def _image(value: float) -> Tensor:
    return torch.full((3, 8, 8), float(value))


def _key(name: str) -> Any:
    return ("digest", "fingerprint", (name,))


def test_the_least_recently_used_image_is_dropped() -> None:
    cache = PrefixCache(3 * IMAGE)
    for number, name in enumerate("abc"):
        cache.put(_key(name), _image(number))
    assert len(cache) == 3
    assert cache.get(_key("a")) is not None  # used now, so "b" is the least recently used
    cache.put(_key("d"), _image(3))
    assert len(cache) == 3
    assert cache.get(_key("b")) is None
    for name, value in (("a", 0.0), ("c", 2.0), ("d", 3.0)):
        actual = cache.get(_key(name))
        assert actual is not None
        assert torch.equal(actual, _image(value))
    assert cache.hits == 4


def test_the_limit_counts_bytes_not_images() -> None:
    cache = PrefixCache(4 * IMAGE)
    for name in "abcd":
        cache.put(_key(name), _image(0))
    cache.put(_key("big"), torch.zeros(3, 16, 16)[:, :, :16])  # as large as four
    assert len(cache) == 1
    cache.put(_key("too big"), torch.zeros(3, 16, 17))
    assert len(cache) == 1, "an image larger than the cache must not remove the others"
    cache.put(_key("a"), _image(0))
    assert len(cache) == 1
    assert cache.get(_key("big")) is None


def test_a_stored_image_is_not_replaced_or_counted_twice() -> None:
    cache = PrefixCache(2 * IMAGE)
    for value in range(5):
        cache.put(_key("a"), _image(value))
    cache.put(_key("b"), _image(9))
    assert len(cache) == 2
    actual = cache.get(_key("a"))
    assert actual is not None
    assert torch.equal(actual, _image(0))


def test_a_view_of_a_batch_is_copied() -> None:
    cache = PrefixCache()
    batch = torch.rand(16, 3, 8, 8)
    for number, image in enumerate(batch):
        cache.put(_key(str(number)), image)
    for number in range(16):
        actual = cache.get(_key(str(number)))
        assert actual is not None
        assert torch.equal(actual, batch[number])
        assert actual.untyped_storage().nbytes() == IMAGE


@pytest.mark.parametrize("side", [8, 36, 37, 128])
def test_images_of_any_size_keep_their_bits_and_can_be_pickled(side: int) -> None:
    """Large images lie on pages of their own, small ones where other tensors do."""
    cache = PrefixCache()
    image = torch.randn(4, 3, side, side)[2]
    cache.put(_key("a"), image)
    stored = cache.get(_key("a"))
    assert stored is not None and stored.data_ptr() != image.data_ptr()
    assert torch.equal(stored, image) and stored.is_contiguous()
    again = pickle.loads(pickle.dumps(cache)).get(_key("a"))
    assert torch.equal(again, image)
    cache.clear()
    assert torch.equal(stored, image)  # the pages live as long as the last tensor on them


def test_clear_removes_all_images() -> None:
    cache = PrefixCache(2 * IMAGE)
    for _ in range(2):
        for name in "abc":
            cache.put(_key(name), _image(1))
        assert len(cache) == 2
        cache.clear()
        assert len(cache) == 0 and cache.get(_key("c")) is None


def test_a_cache_of_n_bytes_costs_n_bytes_of_memory() -> None:
    """Although networks allocate and free larger tensors between two images, and also after ``clear``."""
    process, bound = psutil.Process(), 64 * 2**20
    cache = PrefixCache(bound)
    memory: list[int] = []
    for number in range(500):
        if number == 10:  # the activations have their place
            cache.clear()
            memory.append(process.memory_info().rss)
        batch = torch.full((1 + number % 3, 3, 128, 128), 0.5)
        activations = batch.repeat(1, 8, 1, 1)
        cache.put(_key(str(number)), batch[0])
        del batch, activations
    memory.append(process.memory_info().rss)
    cache.clear()
    memory.append(process.memory_info().rss)
    assert memory[1] - memory[0] < 1.2 * bound
    assert memory[1] - memory[2] > 0.95 * bound


def test_the_executor_caches_single_images_not_batches(make_toolbox: Any, make_sample: Any) -> None:
    cache = PrefixCache()
    samples = [make_sample(seed, (13, 14)) for seed in range(6)]
    for plan in (("tiny.conv",), ("tiny.enlarge",), ("tiny.odd", "tiny.invert")):
        list(Executor(make_toolbox(), cache=cache).run(samples, [plan] * 6))
    assert len(cache) == 18
    for image in cache._images.values():
        assert isinstance(image, Tensor)  # small images are
        assert image.untyped_storage().nbytes() == 3 * 13 * 14 * 4


def test_a_cache_hit_returns_the_same_bits(make_toolbox: Any, make_sample: Any) -> None:
    cache = PrefixCache()
    executor = Executor(make_toolbox(), cache=cache)
    samples = [make_sample(seed) for seed in range(5)]
    plans = [("tiny.conv",), ("tiny.conv", "tiny.odd")]
    first: dict[Any, Tensor] = {}
    for plan in plans:
        for result in executor.run(samples, [plan] * 5):
            first[result.sample.key, plan] = result.image.clone()
    ran = executor.tools_run
    assert ran == 10
    # Computed again in batches of another size, the images could differ in the last bit.
    for sample in samples:
        for result in executor.run([sample] * 2, plans):
            assert torch.equal(result.image, first[sample.key, result.plan])
    assert executor.tools_run == ran
    assert cache.hits == 10 + 5  # ten hits now and five prefixes before


def test_longer_plans_use_cached_prefixes(make_toolbox: Any, make_sample: Any, recorder: Any) -> None:
    toolbox = make_toolbox()
    counted = recorder(lambda image: image * 0.5)
    toolbox.add("counted", counted)
    executor = Executor(toolbox, cache=PrefixCache())
    sample = make_sample()
    plan = ("counted", "tiny.conv", "tiny.odd", "tiny.invert")
    for length in range(len(plan) + 1):
        (result,) = executor.run([sample], [plan[:length]])
        assert result.plan == plan[:length]
    assert executor.tools_run == len(plan)
    assert counted.images == 1


def test_a_repeated_plan_runs_no_tool(make_toolbox: Any, make_sample: Any) -> None:
    """The result is cached; its prefixes are not, and are not needed."""
    executor = Executor(make_toolbox(), cache=PrefixCache())
    sample = make_sample()
    plan = ("tiny.conv", "tiny.odd", "tiny.invert")
    (first,) = executor.run([sample], [plan])
    assert executor.tools_run == 3
    (again,) = executor.run([sample], [plan])
    assert torch.equal(first.image, again.image)
    assert executor.tools_run == 3


def test_a_cache_of_zero_bytes_works(make_toolbox: Any, make_sample: Any) -> None:
    executor = Executor(make_toolbox(), cache=PrefixCache(0))
    for _ in range(2):
        list(executor.run([make_sample()], [("tiny.conv",)]))
    assert executor.tools_run == 2


def test_images_of_earlier_weights_are_not_returned(
    make_toolbox: Any, make_sample: Any, reference_execute: Any
) -> None:
    toolbox = make_toolbox()
    cache = PrefixCache()
    executor = Executor(toolbox, cache=cache)
    sample = make_sample()
    plan = ("tiny.conv", "tiny.odd")
    conv = toolbox["tiny.conv"].module
    original_state = {key: value.clone() for key, value in conv.state_dict().items()}

    def run() -> Tensor:
        (result,) = executor.run([sample], [plan])
        expected = reference_execute(toolbox, sample.lq, sample.canvas, plan)
        torch.testing.assert_close(result.image, expected, atol=1e-4, rtol=0)
        return result.image.clone()

    before = run()
    with torch.no_grad():
        conv.weight.mul_(-1)
    assert not torch.allclose(run(), before, atol=1e-3)

    optimizer = torch.optim.AdamW(conv.parameters(), lr=0.05)
    conv(torch.rand(1, 3, 8, 8)).square().mean().backward()
    optimizer.step()
    run()

    conv.load_state_dict(original_state)
    assert torch.equal(run(), before), "with the first weights restored, the first image is correct again"


def test_toolboxes_can_share_a_cache(make_sample: Any) -> None:
    """Tools with equal names and code but different weights have separate entries."""
    cache = PrefixCache()
    sample = make_sample()
    for seed in range(3):
        torch.manual_seed(seed)
        network = torch.nn.Conv2d(3, 3, 1)
        (result,) = Executor(Toolbox().add("same", network), cache=cache).run([sample], [("same",)])
        with torch.no_grad():
            expected = network(sample.lq[None])[0]
        torch.testing.assert_close(result.image, expected, atol=1e-5, rtol=0)


def test_another_canvas_has_its_own_entry(make_toolbox: Any, make_sample: Any) -> None:
    executor = Executor(make_toolbox(), cache=PrefixCache())
    sizes = []
    for canvas in ((12, 16), (48, 64)):
        (result,) = executor.run([make_sample(0, (12, 16), canvas)], [("tiny.enlarge",)])
        sizes.append(tuple(result.image.shape[-2:]))
    assert sizes == [(12, 16), (48, 64)]
