"""Critic training: what it writes, exact resume, refused settings, encoders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from opera_agents.common.runs import load_encoder
from opera_agents.critic import train as trainer
from opera_agents.critic.config import CriticConfig
from opera_agents.critic.dataset import ScoredImages
from opera_agents.critic.train import train
from opera_env.degradations.real import REAL_LABELS
from opera_env.encoder import Detector
from opera_env.errors import (
    AgentError,
    MissingWeightsError,
    RunError,
    SampleError,
    SettingError,
    ToolboxError,
)
from opera_env.metrics.critic import Critic, CriticNet

Configure = Callable[..., CriticConfig]


def equal(a: Path, b: Path) -> bool:
    first_weights, second_weights = (load_file(folder / "critic.safetensors") for folder in (a, b))
    return first_weights.keys() == second_weights.keys() and all(
        torch.equal(first_weights[name], second_weights[name]) for name in first_weights
    )


def test_a_trained_critic_is_a_metric(configure: Configure, tmp_path: Path) -> None:
    config = configure()
    result = train(config)
    assert 0 < result.mae < 10 and 0 <= result.ranking.reference_first <= 1 and result.ranking.regret >= 0
    values = Critic(config.out / "critic.safetensors").values(torch.rand(2, 3, 32, 40), ())
    assert ((values > 0) & (values < 10)).all()
    assert (config.out / "critic.safetensors").stat().st_size < 3_000_000
    assert list(config.out.glob("events.out.tfevents*"))
    settings = (config.out / "config.json").read_text()
    assert str(tmp_path) not in settings.replace(config.toolbox, "")


@pytest.mark.slow
def test_a_critic_of_own_degradations(configure: Configure) -> None:
    custom_degradations = "tests.degradations.own:OWN_DEGRADATIONS"
    config = configure(degradations=custom_degradations, samples=6, val_count=40)
    train(config)
    for split in ("train", "val"):
        paths = sorted((config.out / split).glob("*.npz"))
        recipes = ScoredImages.concat([ScoredImages.load(path) for path in paths]).recipes
        assert {name for recipe in recipes for name in recipe} & {"vignette", "salt_and_pepper"}


@pytest.mark.slow
def test_predictions_improve(configure: Configure) -> None:
    """On the training images."""
    config = configure(
        steps=200, photographs_per_batch=4, images_per_photograph=4, val_every=200, val_count=16
    )
    before = train(replace(config, out=config.out.with_name("before"), steps=1, lr=0.0))
    after = train(config)
    scored_images = ScoredImages.concat(
        [ScoredImages.load(path) for path in sorted((config.out / "train").glob("*.npz"))]
    )
    values = Critic(config.out / "critic.safetensors").values(scored_images.images / 255, ())
    assert np.corrcoef(values.numpy(), scored_images.r_q.numpy())[0, 1] > 0.7
    # On other photographs, 200 steps teach what an original is, and not yet which of two results is better.
    assert after.ranking.reference_first > before.ranking.reference_first + 0.5
    assert after.ranking.regret < before.ranking.regret and after.mae < before.mae


def test_resumed_run_equals_uninterrupted_run(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = configure("whole"), configure("parts")
    train(whole)
    original = trainer.sample_batch

    def interrupted(*args: object) -> object:
        if args[-1] == 4:
            raise KeyboardInterrupt
        return original(*args)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(trainer, "sample_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(parts)
    assert not (parts.out / "critic.safetensors").exists()
    assert torch.load(parts.out / "checkpoint.pt", weights_only=True)["step"] == 3
    monkeypatch.undo()
    train(parts)
    assert equal(whole.out, parts.out)
    before = load_file(parts.out / "critic.safetensors")
    train(parts)
    after = load_file(parts.out / "critic.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before), "a finished run is not changed"


def test_other_settings_raise(configure: Configure) -> None:
    train(configure(steps=1))
    with pytest.raises(RunError, match="lr"):
        train(configure(steps=1, lr=1e-5))


def test_a_run_can_be_resumed_with_more_steps(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configure(steps=1, shards=1, samples=2, val_count=2)
    train(config)
    train(config)
    assert f"{config.out} is finished, 1 of 1 steps" in capsys.readouterr().out
    train(replace(config, steps=2))
    assert f"{config.out}: steps 1, now 2" in capsys.readouterr().out
    assert torch.load(config.out / "checkpoint.pt", weights_only=True)["step"] == 2
    with pytest.raises(RunError, match="was trained for 2 steps, which cannot become 1"):
        train(config)


def test_mistyped_inputs_are_refused_and_nothing_is_written(configure: Configure, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    for settings, error in [
        ({"encoder": nowhere / "detector.safetensors"}, MissingWeightsError),
        ({"images": (nowhere,)}, SampleError),
        ({"val": nowhere}, SampleError),
        ({"toolbox": str(nowhere)}, ToolboxError),
    ]:
        with pytest.raises(error):
            train(replace(configure("mistyped"), **settings))
    with pytest.raises(SettingError, match="--temperature 0"):
        configure("mistyped", temperature=0.0)
    assert list(tmp_path.iterdir()) == []


def test_a_reward_without_bounds_raises(configure: Configure) -> None:
    with pytest.raises(AgentError, match="paper"):
        train(configure(reward="paper"))


def test_training_starts_from_a_detectors_encoder(configure: Configure, tmp_path: Path) -> None:
    torch.manual_seed(3)
    detector, net = Detector(8), CriticNet()
    path = tmp_path / "detector.safetensors"
    save_file({name: value.half() for name, value in detector.state_dict().items()}, path)
    load_encoder(net.encoder, path)
    for loaded, expected in zip(net.encoder.parameters(), detector.encoder.parameters(), strict=True):
        assert torch.equal(loaded, expected.half().float())
    plain, started = configure("plain", steps=1), configure("started", steps=1, encoder=path)
    train(plain)
    train(started)
    assert not equal(plain.out, started.out)


def test_files_without_an_encoder_raise(tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError):
        load_encoder(CriticNet().encoder, tmp_path / "none.safetensors")
    save_file(
        {"encoder.stem.weight": torch.zeros(1), "head": torch.zeros(2)}, tmp_path / "other.safetensors"
    )
    with pytest.raises(AgentError, match="encoder"):
        load_encoder(CriticNet().encoder, tmp_path / "other.safetensors")


def test_a_critic_of_real_damage(configure: Configure, photos: Path) -> None:
    """Its data follows the rule of real photographs, in training and validation."""
    real = Path(f"real:{photos}")
    config = configure(images=(real,), val=real, samples=6, val_count=12)
    train(config)
    for folder, count in (("train", 12), ("val", 12)):
        scored = [ScoredImages.load(path) for path in sorted((config.out / folder).glob("*.npz"))]
        recipes = [recipe for images in scored for recipe in images.recipes]
        assert len(recipes) == count and {name for recipe in recipes for name in recipe} <= set(REAL_LABELS)
    assert any(not recipe for recipe in recipes)
