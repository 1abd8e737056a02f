"""The state of an episode, and what agents observe of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from opera_env.data.images import resize, to_array, to_pil
from opera_env.errors import PlanParseError
from opera_env.types import Decision, Observation, Outcome, Plan, Sample, Turn


@dataclass
class Episode:
    """The state of one episode.

    Attributes:
        sample: The degraded image with its reference and labels.
        plan: The tools applied so far.
        outcome: The outcome of the plan; None before the first score.
        done: Whether the episode has ended.
        original: The Gymnasium observation of the image before the first tool; None until it is needed.
        undone: Number of tools that were applied and taken back; they count as steps.
        turns: Number of decisions so far.
        history: The earlier turns; empty unless somebody needs them.
    """

    sample: Sample
    plan: Plan = ()
    outcome: Outcome | None = None
    done: bool = False
    original: NDArray[np.uint8] | None = None
    undone: int = 0
    turns: int = 0
    history: tuple[Turn, ...] = ()


def observe(episode: Episode, max_tools: int) -> Observation:
    """Returns the observation of an agent: images at canvas size, without reference and labels."""
    sample = episode.sample
    original = resize(sample.lq[None], sample.canvas)[0].clamp(0, 1)
    image = original
    if episode.outcome is not None and episode.outcome.restored is not None and episode.plan:
        image = episode.outcome.image()
    left = steps_left(episode, max_tools)
    return Observation(image, original, episode.plan, left, sample.size, episode.history)


def steps_left(episode: Episode, max_tools: int) -> int:
    """Returns how many more tools may run; those that were taken back have run."""
    return max_tools - len(episode.plan) - episode.undone


def take_turn(episode: Episode, decision: Decision, max_tools: int) -> None:
    """Updates the plan of an episode by a decision, and whether the episode has ended.

    It ends if the decision says so or is empty, if no steps are left, and after ``2 * max_tools``
    decisions. The outcome is still that of the plan before; tools beyond the steps left are dropped.

    Args:
        episode: The episode, which is changed.
        decision: The decision.
        max_tools: Maximum number of tools that run.

    Raises:
        PlanParseError: If more tools are taken back than were applied.
    """
    if not 0 <= decision.undo <= len(episode.plan):
        raise PlanParseError(
            f"expected to take back at most the {len(episode.plan)} tools of the plan so far, found "
            f"{decision.undo}."
        )
    added = decision.plan[: steps_left(episode, max_tools)]
    episode.plan = (*episode.plan[: len(episode.plan) - decision.undo], *added)
    episode.undone += decision.undo
    episode.turns += 1
    is_empty = not decision.plan and not decision.undo
    is_spent = steps_left(episode, max_tools) == 0 or episode.turns == 2 * max_tools
    episode.done = decision.finish or is_empty or is_spent


def to_pixels(image: torch.Tensor, obs_size: int) -> NDArray[np.uint8]:
    """Converts an image of an agent's observation to a Gymnasium observation.

    Args:
        image: float32 (3, H, W) in [0, 1].
        obs_size: Height and width of the result in pixels.

    Returns:
        A new uint8 array (obs_size, obs_size, 3).
    """
    return np.ascontiguousarray(to_array(resize(image[None], (obs_size, obs_size))[0]))


def observe_pixels(episode: Episode, obs_size: int) -> NDArray[np.uint8]:
    """Returns the Gymnasium observation of the current image, a new uint8 array (obs_size, obs_size, 3).

    It equals ``to_pixels(observe(episode, max_tools).image, obs_size)``. An 8-bit image of the right
    size is copied without a conversion to floating point.
    """
    restored = episode.outcome.restored if episode.outcome is not None and episode.plan else None
    if restored is None:
        return original_pixels(episode, obs_size)
    if restored.shape[-2:] == (obs_size, obs_size):
        return np.array(to_array(restored), order="C")
    return to_pixels(restored.to(torch.float32) / 255, obs_size)


def original_pixels(episode: Episode, obs_size: int) -> NDArray[np.uint8]:
    """Returns the Gymnasium observation of the image before the first tool, as a new array."""
    if episode.original is None:
        episode.original = to_pixels(observe(Episode(episode.sample), 0).original, obs_size)
    return episode.original.copy()


def restored_pil(outcome: Outcome) -> Image.Image:
    """Returns the restored image of an outcome as a PIL image.

    Gymnasium can collect PIL images of different sizes in one info array, but not tensors.
    """
    assert outcome.restored is not None
    return to_pil(outcome.restored)
