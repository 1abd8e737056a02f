"""Rendering: the input, the result of each tool under its name, and the reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from PIL import Image, ImageFont

from opera_env.data import photographs
from opera_env.data.images import resize, to_array, to_pil
from opera_env.envs.observation import Episode
from opera_env.envs.render import image_frame, wrap_caption
from opera_env.types import Sample, SampleSpec

MakeEnv = Callable[..., gym.Env[Any, Any]]
environments = pytest.mark.parametrize("name", ["OPERA-Restore-v0", "OPERA-RestoreStepwise-v0"])


def test_captions_are_broken_at_spaces_only() -> None:
    font = ImageFont.load_default(12)
    caption = "input noise > low_resolution"
    assert wrap_caption(caption, 1000, font) == [caption]
    assert wrap_caption(caption, 1, font) == ["input", "noise", ">", "low_resolution"]
    assert wrap_caption("", 100, font) == []
    for width in range(20, 200, 7):
        lines = wrap_caption(caption, width, font)
        assert " ".join(lines) == caption
        assert all(font.getlength(line) <= width or " " not in line for line in lines)


@pytest.mark.parametrize("size", [(1, 300), (300, 1), (1, 1)])
def test_images_of_any_shape(size: tuple[int, int]) -> None:
    frame, empty = (image_frame([slot], side=40) for slot in (("a", Image.new("RGB", size, "red")), None))
    assert frame.size == empty.size
    assert frame.tobytes() != empty.tobytes()


def test_captioned_images(make_env: MakeEnv, samples: list[Sample]) -> None:
    """The input of low resolution is shown at canvas size."""
    sample = samples[-1]
    assert sample.lq.shape[-1] == 16 and sample.reference is not None
    rules = make_env().unwrapped.rules
    plan = ("tiny.enlarge", "tiny.darken")
    frames = rules.captioned_images(Episode(sample, plan))
    captions = [caption for caption, _ in frames]
    assert captions == ["input noise > low_resolution", "tiny.enlarge", "tiny.darken", "reference"]
    assert all(picture.size == (64, 64) for _, picture in frames)
    shown = resize(sample.lq[None], (64, 64))[0].clamp(0, 1)
    assert np.array_equal(np.asarray(frames[0][1]), to_array(shown))
    assert frames[-1][1].tobytes() == to_pil(sample.reference).tobytes()
    restored = rules.scorer.score([sample], [plan])[0].image()
    assert frames[2][1].tobytes() == to_pil(restored).tobytes()


def test_a_repeated_tool_has_two_frames(make_env: MakeEnv, samples: list[Sample]) -> None:
    frames = make_env().unwrapped.rules.captioned_images(Episode(samples[0], ("tiny.darken",) * 2))
    assert [caption for caption, _ in frames][1:3] == ["tiny.darken", "tiny.darken"]
    assert np.asarray(frames[2][1]).mean() < np.asarray(frames[1][1]).mean()


def filled_slots(frame: Any, num_slots: int) -> list[bool]:
    """Returns which slots of a frame of one row show an image: an empty one has a single colour."""
    width = (frame.shape[1] - 4) // num_slots
    slots = [frame[36:-4, 4 + index * width : index * width + width] for index in range(num_slots)]
    return [bool(slot.std(axis=(0, 1)).any()) for slot in slots]


@environments
def test_frames_have_one_size_and_a_slot_for_each_tool(make_env: MakeEnv, name: str) -> None:
    """Input, three tools, reference: the slots are filled from left to right."""
    env = make_env(name, render_mode="rgb_array")
    env.reset(seed=0)
    start = env.render()
    assert start.dtype == np.uint8 and start.ndim == 3 and start.shape[2] == 3
    assert start.flags.writeable
    assert start.shape[0] % 2 == start.shape[1] % 2 == 0
    assert filled_slots(start, 5) == [True, False, False, False, True]
    plan = [3, 1, 1]
    for step in [np.array(plan)] if name == "OPERA-Restore-v0" else plan:
        env.step(step)
        frame = env.render()
        assert frame.shape == start.shape
        assert np.array_equal(frame, env.render())
    assert filled_slots(frame, 5) == [True] * 5
    env.reset(seed=1)
    assert env.render().shape == start.shape


@pytest.mark.parametrize("num_slots", [1, 3, 5, 6, 8, 12, 23])
def test_a_frame_has_even_sides_and_at_most_five_columns(num_slots: int) -> None:
    image = Image.new("RGB", (301, 200), "red")
    full = image_frame([("a.tool", image)] * num_slots, side=40)
    empty = image_frame([None] * num_slots, side=40)
    assert full.size == empty.size
    assert full.width % 2 == full.height % 2 == 0
    assert full.width <= 5 * 44 + 4


def test_long_captions_stay_in_their_slot() -> None:
    """They are broken into two lines and drawn smaller instead of being cut."""
    image = Image.new("RGB", (20, 20), (255, 0, 0))
    caption = "input defocus_blur > low_resolution > motion_blur"
    frame = np.asarray(image_frame([(caption, image), None], side=120))
    captions = frame[4:36]
    assert (captions[:, 128:] == 255).all()
    assert (captions[:, 4:124] < 128).any()
    narrow = np.asarray(image_frame([("unet.super_resolution_lpips", image), None], side=120))
    assert (narrow[4:36, 128:] == 255).all() and (narrow[4:36] < 128).any()


@environments
def test_rendering_does_not_change_the_episode(make_env: MakeEnv, name: str) -> None:
    rendered, other = make_env(name, render_mode="rgb_array"), make_env(name)
    action = np.array([3, 1, 0]) if name == "OPERA-Restore-v0" else 3
    results = []
    for env in (rendered, other):
        env.reset(seed=1)
        if env is rendered:
            env.render()
        results.append(env.step(action)[1:])
        if env is rendered:
            env.render()
        results.append(env.reset()[1])
    assert results[:2] == results[2:]


def test_without_reference_none_is_rendered(make_env: MakeEnv, photos: Path) -> None:
    source = photographs(photos)
    sample = source.make(SampleSpec(source.name, 1))
    env = make_env(source=source, reward="label_free", render_mode="rgb_array")
    frames = env.unwrapped.rules.captioned_images(Episode(sample, ("tiny.blur",)))
    assert [caption.strip() for caption, _ in frames] == ["input", "tiny.blur"]
    assert frames[0][1].size == (75, 101)
    shapes = set()
    for index in range(3):  # photographs of three sizes
        env.reset(options={"sample": SampleSpec(source.name, index)})
        shapes.add(env.render().shape)
    assert len(shapes) == 1


def test_render_needs_a_reset(make_env: MakeEnv) -> None:
    with pytest.raises(ResetNeeded):
        make_env(render_mode="rgb_array").unwrapped.render()


def test_render_without_a_mode_warns(make_env: MakeEnv) -> None:
    env = make_env().unwrapped
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="rgb_array"):
        assert env.render() is None
