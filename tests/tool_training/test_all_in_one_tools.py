"""The all-in-one tool: its spec, and its training on images of two sizes, at toy size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from opera_env.data.images import quantise, read_images, resize
from opera_env.degradations import DEGRADATIONS, degrade
from opera_env.degradations.recipes import TRAINING_RECIPES, sample_recipe
from opera_env.tool_training import all_in_one_tools
from opera_env.tool_training.all_in_one_tools import ALL_IN_ONE_TOOLS, degrade_by_training_mix
from opera_env.tool_training.config import PackConfig, TrainConfig
from opera_env.tool_training.lite_tools import LITE_TOOLS
from opera_env.tool_training.pack import pack
from opera_env.tool_training.patches import collate_by_size, collate_pairs, validation_pair
from opera_env.tool_training.train import list_images, psnr, train, validate
from opera_env.tools import Toolbox
from opera_env.tools.nets import build_net

(SPEC,) = ALL_IN_ONE_TOOLS


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.fixture
def config(
    tmp_path: Path, write_photographs: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> Iterator[TrainConfig]:
    """The settings of a short run, of a network that is tiny but otherwise the same."""
    options = {**SPEC.options, "widths": (4, 8)}
    tiny = replace(SPEC, options=options, steps=16, batch_size=4, patch_size=32, margin=0, lr=1e-2)
    monkeypatch.setattr(all_in_one_tools, "ALL_IN_ONE_TOOLS", (tiny,))
    write_photographs(tmp_path / "data" / "train", 3, seed=0)
    write_photographs(tmp_path / "data" / "val", 6, seed=1)
    threads = torch.get_num_threads(), cv2.getNumThreads()
    yield TrainConfig(
        SPEC.name,
        images=(tmp_path / "data" / "train",),
        val=tmp_path / "data" / "val",
        pool="all-in-one",
        out=tmp_path / "runs",
        warmup_steps=2,
        val_every=16,
        val_side=64,
        device="cpu",
        autocast=False,
    )
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])


def test_it_removes_every_degradation_with_about_the_parameters_of_two_tools() -> None:
    assert SPEC.degradations == set(DEGRADATIONS)
    assert SPEC.flip_only, "some of its images are hazy"
    net = build_net(SPEC.net, SPEC.options)
    specialists = [count(build_net(spec.net, spec.options)) for spec in LITE_TOOLS if spec.steps]
    assert 2 * min(specialists) < count(net) < 2 * max(specialists)
    assert SPEC.patch_size // 4 % net.multiple == 0, "patches of low resolution must not need padding"


def test_the_training_mix_is_that_of_agents() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    sizes = set()
    for seed in range(8):
        actual = degrade_by_training_mix(image, np.random.default_rng(seed))
        rng = np.random.default_rng(seed)
        recipe = sample_recipe(rng, TRAINING_RECIPES)
        assert np.array_equal(actual, degrade(image, recipe, rng)[0])
        assert actual.shape[0] == (8 if "low_resolution" in recipe else 32)
        sizes.add(actual.shape[:2])
    assert sizes == {(32, 48), (8, 12)}


def test_patches_of_one_size_share_a_batch() -> None:
    rng = np.random.default_rng(0)
    clean = [rng.integers(0, 256, (16, 16, 3), np.uint8) for _ in range(4)]
    pairs = [(image[::4, ::4] if index % 2 else image, image) for index, image in enumerate(clean)]
    large, small = collate_by_size(pairs)
    assert large[0].shape == (2, 3, 16, 16) and small[0].shape == (2, 3, 4, 4)
    for batch, rows in ((large, pairs[::2]), (small, pairs[1::2])):
        expected = collate_pairs(rows)
        assert torch.equal(batch[0], expected[0]) and torch.equal(batch[1], expected[1])


@pytest.mark.slow
def test_it_is_trained_and_the_packed_tool_gains_what_the_training_says(
    config: TrainConfig, tmp_path: Path
) -> None:
    result = train(config)
    pack(PackConfig(config.out, tmp_path / "box", "all-in-one"))
    tool = Toolbox.load(tmp_path / "box")[SPEC.name]
    assert tool.net is not None and tool.degradations == set(DEGRADATIONS) and tool.scale == 4
    assert "--pool all-in-one" in tool.training["command"]
    images = read_images(list_images(config.val))
    pairs = [validation_pair(image, SPEC.degrade, 64, seed) for seed, image in enumerate(images)]
    assert {degraded.shape[0] for degraded, _ in pairs} == {64, 16}, "both sizes are validated"
    gains = []
    for degraded, clean in (collate_pairs([pair]) for pair in pairs):
        with torch.inference_mode():
            restored = resize(tool(degraded, (64, 64)), (64, 64))
        before, after = (
            psnr(quantise(image), quantise(clean)).item()
            for image in (resize(degraded, (64, 64)), restored)
        )
        gains.append(after - before)
    assert np.mean(gains) == pytest.approx(result["psnr_gain"], abs=0.02), "weights are stored as float16"
    untrained = validate(build_net(*tool.net), pairs, torch.device("cpu"))
    assert result["psnr_gain"] > untrained["psnr_gain"] + 0.05
