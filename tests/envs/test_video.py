"""Videos and windows of Gymnasium and SB3, which need frames of one size: RecordVideo, HumanRendering."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import DependencyNotInstalled, UnsupportedMode
from gymnasium.wrappers import RecordVideo, vector
from stable_baselines3.common.vec_env import VecVideoRecorder

from opera_agents.ppo.vec_env import OperaVecEnv
from opera_env.data import Source, photographs
from opera_env.envs.registration import ENVIRONMENTS
from opera_env.envs.restore import RestoreEnv
from opera_env.tools import Toolbox

every_environment = pytest.mark.parametrize("name", ENVIRONMENTS)
FRAME = (232, 984, 3)
"""Input, three tools and the reference in one row of slots of 192 pixels."""


class _OpenCVClip:
    """Stands in for the encoder of MoviePy, which requires an older Pillow; another codec."""

    def __init__(self, frames: Any, fps: float) -> None:
        self.frames, self.fps = np.stack(frames), fps  # frames of several sizes cannot be stacked

    def write_videofile(self, path: str, logger: Any = None) -> None:
        height, width = self.frames.shape[1:3]
        assert height % 2 == width % 2 == 0  # as H.264 needs
        writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"mp4v"), self.fps, (width, height))
        for frame in self.frames:
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        writer.release()


@pytest.fixture(autouse=True)
def encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """MoviePy where it is installed, else the stand-in."""
    if find_spec("moviepy") is None:
        module: Any = ModuleType("moviepy.video.io.ImageSequenceClip")
        module.ImageSequenceClip = _OpenCVClip
        for name in ("moviepy", "moviepy.video", "moviepy.video.io", module.__name__):
            monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def fast_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window shows one frame a second, for which a test need not wait."""
    monkeypatch.setitem(RestoreEnv.metadata, "render_fps", 1000)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Pygame without a display."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    pygame = pytest.importorskip("pygame")
    yield pygame
    pygame.quit()


def frames_of(path: Path) -> list[Any]:
    """Decodes all frames of a video file."""
    video = cv2.VideoCapture(str(path))
    frames = []
    while (read := video.read())[0]:
        frames.append(read[1][:, :, ::-1])
    return frames


def play(env: gym.Env[Any, Any], plan: list[int], seed: int | None = None) -> list[Any]:
    """Plays an episode and returns its frames, the first of them after reset."""
    env.reset(seed=seed)
    frames = [env.render()]
    steps = [np.array(plan)] if isinstance(env.action_space, gym.spaces.MultiDiscrete) else plan
    for step in steps:
        env.step(step)
        frames.append(env.render())
    return frames


@every_environment
def test_a_video_of_each_episode(make_env: Callable[..., Any], tmp_path: Path, name: str) -> None:
    env = RecordVideo(
        make_env(name, render_mode="rgb_array"), str(tmp_path / "videos"), lambda episode: True
    )
    expected = play(env, [3, 1, 2], seed=0)
    play(env, [0, 0, 0][:1] * 3 if name == "OPERA-Restore-v0" else [0])
    env.close()
    videos = sorted((tmp_path / "videos").glob("*.mp4"))
    assert len(videos) == 2
    frames = frames_of(videos[0])
    assert [frame.shape for frame in frames] == [FRAME] * len(expected)
    for ours, theirs in zip(frames, expected, strict=True):  # but for what the encoder loses
        assert np.abs(ours.astype(int) - theirs).mean() < 10
    assert len(frames_of(videos[1])) == 2


@pytest.mark.slow
def test_a_video_of_photographs_of_several_sizes(
    make_env: Callable[..., Any], photos: Path, tmp_path: Path
) -> None:
    """Frames of one recording have one size although episodes differ in size."""
    env = make_env(source=photographs(photos), reward="label_free", render_mode="rgb_array")
    env = RecordVideo(env, str(tmp_path / "videos"), step_trigger=lambda step: step == 0, video_length=5)
    for seed in range(4):
        play(env, [3, 0, 0], seed)
    env.close()
    (video,) = (tmp_path / "videos").glob("*.mp4")
    assert {frame.shape for frame in frames_of(video)} == {FRAME}


@pytest.fixture
def make_vector(toolbox: Toolbox, source: Source) -> Callable[..., Any]:
    def make(name: str, **options: Any) -> Any:
        small = {"toolbox": toolbox, "reward": "classic", "source": source, "max_tools": 3, "obs_size": 64}
        return gym.make_vec(name, num_envs=2, vectorization_mode="vector_entry_point", **(small | options))

    return make


@every_environment
def test_frames_of_a_vector(
    make_vector: Callable[..., Any], make_env: Callable[..., Any], name: str
) -> None:
    """They equal those of single environments; an episode that has ended is drawn once with its plan."""
    plan = [3, 1, 2]
    single = make_env(name, render_mode="rgb_array")
    expected = [play(single, plan, seed) for seed in (4, 5)]
    envs = make_vector(name, render_mode="rgb_array")
    envs.reset(seed=4)
    frames = [envs.render()]
    steps = (
        [np.array([plan] * 2)] if name == "OPERA-Restore-v0" else [np.array([tool] * 2) for tool in plan]
    )
    for step in steps:
        terminated = envs.step(step)[2]
        frames.append(envs.render())
    assert terminated.all()
    for episode, frames_of_one in zip(expected, zip(*frames, strict=True), strict=True):
        for ours, theirs in zip(frames_of_one, episode, strict=True):
            assert np.array_equal(ours, theirs)


@pytest.mark.slow
@every_environment
def test_a_video_of_a_vector(make_vector: Callable[..., Any], tmp_path: Path, name: str) -> None:
    first = {"step_trigger": lambda step: step == 0, "video_length": 4}
    envs = make_vector(name, render_mode="rgb_array")
    envs = vector.RecordVideo(envs, str(tmp_path / "videos"), **first)
    envs.reset(seed=0)
    for _ in range(5):
        envs.step(envs.action_space.sample())
    envs.close()
    (video,) = (tmp_path / "videos").glob("*.mp4")
    assert len({frame.shape for frame in frames_of(video)}) == 1


@pytest.mark.slow
def test_a_video_of_sb3(make_vector: Callable[..., Any], tmp_path: Path) -> None:
    envs = OperaVecEnv(make_vector("OPERA-RestoreStepwise-v0", render_mode="rgb_array"))
    recorder = VecVideoRecorder(envs, str(tmp_path / "videos"), lambda step: step == 0, video_length=3)
    recorder.reset()
    for _ in range(4):
        recorder.step(np.array([3, 1]))
    recorder.close()
    (video,) = (tmp_path / "videos").glob("*.mp4")
    frames = frames_of(video)
    assert len(frames) >= 3 and len({frame.shape for frame in frames}) == 1


def test_a_list_of_frames(make_env: Callable[..., Any]) -> None:
    env = make_env("OPERA-RestoreStepwise-v0", render_mode="rgb_array_list")
    env.reset(seed=0)
    for action in (3, 1, 0):
        env.step(action)
    assert np.stack(env.render()).shape == (4, *FRAME)


@every_environment
@pytest.mark.usefixtures("fast_clock")
@pytest.mark.filterwarnings("ignore:.*You are trying to use 'human' rendering")
def test_a_window_shows_the_frames(make_env: Callable[..., Any], screen: Any, name: str) -> None:
    """``render_mode="human"``: Gymnasium opens a window and shows each frame after reset and step."""
    env, drawn = make_env(name, render_mode="human"), make_env(name, render_mode="rgb_array")
    for seed in (0, 1):
        play(env, [3, 1, 2], seed)
        expected = play(drawn, [3, 1, 2], seed)[-1]
        shown = screen.surfarray.array3d(screen.display.get_surface())
        assert np.array_equal(shown.transpose(1, 0, 2), expected)
    env.close()
    assert not screen.display.get_init()


@pytest.mark.usefixtures("fast_clock")
def test_a_window_shows_the_frames_of_a_vector(make_vector: Callable[..., Any], screen: Any) -> None:
    envs = vector.HumanRendering(make_vector("OPERA-RestoreStepwise-v0", render_mode="rgb_array"))
    envs.reset(seed=0)
    envs.step(np.array([3, 1]))
    assert screen.surfarray.array3d(screen.display.get_surface()).std() > 10
    envs.close()


@pytest.mark.filterwarnings("ignore:.*You are trying to use 'human' rendering")
def test_without_pygame_the_error_says_what_to_install(
    make_env: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(DependencyNotInstalled, match="pygame is not installed"):
        make_env(render_mode="human").reset(seed=0)


@every_environment
def test_modes_that_are_not_supported(make_vector: Callable[..., Any], name: str) -> None:
    with pytest.raises(UnsupportedMode, match="HumanRendering"):
        make_vector(name, render_mode="human")
