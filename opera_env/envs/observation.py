"""The state of an episode, and what agents and learners observe of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from opera_env.data.images import resize, to_array, to_pil
from opera_env.types import Observation, Outcome, Plan, Sample


@dataclass
class Episode:
    """One image on its way through an environment.

    Attributes:
        sample: The image and its secrets.
        plan: The tools applied so far.
        outcome: What they led to; None before anything was judged.
        done: Whether the episode has ended.
        original: The Gymnasium observation of the image before the first tool, once it was made.
    """

    sample: Sample
    plan: Plan = ()
    outcome: Outcome | None = None
    done: bool = False
    original: NDArray[np.uint8] | None = None


def observe(episode: Episode, max_tools: int) -> Observation:
    """Returns what an agent may see of an episode: images at canvas size, no secrets."""
    sample = episode.sample
    original = resize(sample.lq[None], sample.canvas)[0].clamp(0, 1)
    image = original
    if episode.outcome is not None and episode.outcome.restored is not None and episode.plan:
        image = episode.outcome.image()
    return Observation(image, original, episode.plan, max_tools - len(episode.plan))


def to_pixels(image: torch.Tensor, obs_size: int) -> NDArray[np.uint8]:
    """Turns an image of an observation into a Gymnasium observation.

    Args:
        image: float32 (3, H, W) in [0, 1].
        obs_size: Side of the square result.

    Returns:
        A fresh uint8 array (obs_size, obs_size, 3).
    """
    return np.ascontiguousarray(to_array(resize(image[None], (obs_size, obs_size))[0]))


def observe_pixels(episode: Episode, obs_size: int) -> NDArray[np.uint8]:
    """Returns the Gymnasium observation of an episode's image as it is now.

    The same as ``to_pixels(observe(episode).image)``; what is 8-bit and of the right size already does not
    go through floating point again.
    """
    restored = episode.outcome.restored if episode.outcome is not None and episode.plan else None
    if restored is None:
        return original_pixels(episode, obs_size)
    if restored.shape[-2:] == (obs_size, obs_size):
        return np.array(to_array(restored), order="C")
    return to_pixels(restored.to(torch.float32) / 255, obs_size)


def original_pixels(episode: Episode, obs_size: int) -> NDArray[np.uint8]:
    """Returns the Gymnasium observation of an episode's image before the first tool, a fresh copy."""
    if episode.original is None:
        episode.original = to_pixels(observe(Episode(episode.sample), 0).original, obs_size)
    return episode.original.copy()


def restored_pil(outcome: Outcome) -> Image.Image:
    """Returns the restored image as a picture: images of any size travel in one info array."""
    assert outcome.restored is not None
    return to_pil(outcome.restored)
