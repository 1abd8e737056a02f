"""The trainer at tiny size: the loss by hand, what it writes, and that it goes on exactly."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from opera_agents.common.runs import load_encoder
from opera_agents.critic import train as trainer
from opera_agents.critic.collect import ScoredImages
from opera_agents.critic.train import CriticConfig, critic_loss, sample_batch, train
from opera_env.encoder import Detector
from opera_env.errors import AgentError, MissingWeightsError
from opera_env.metrics.critic import Critic, CriticNet

Configure = Callable[..., CriticConfig]


def equal(a: Path, b: Path) -> bool:
    left, right = (load_file(folder / "critic.safetensors") for folder in (a, b))
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_the_loss_by_hand() -> None:
    said = torch.tensor([[4.0, 2.0], [4.0, 1.0], [1.0, 0.0]])
    terms = torch.tensor([[4.0, 2.5], [3.0, 1.5], [7.0, 2.0]])
    guessed = torch.tensor([False, False])
    # R_q is 6.5, 4.5 and 9, and the critic says 6, 5 and 1.
    of_values = (0.125 + 0.125 + 7.5) / 3 + (0.5 + 1.5 + 8) / 3
    # The third image is of another photograph: its order does not matter.
    better = 1 / (1 + math.exp(-4))
    right = math.log1p(math.exp(-2))
    of_order = better * right + (1 - better) * (right + 2)
    loss = critic_loss(said, terms, torch.tensor([0, 0, 1]), guessed, ranking=2.0, temperature=0.5)
    assert loss.item() == pytest.approx(of_values + 2 * of_order, rel=1e-5)
    alone = critic_loss(said, terms, torch.tensor([0, 1, 2]), guessed, ranking=2.0)
    assert alone.item() == pytest.approx(of_values, rel=1e-5)
    # A term that is computed is right in the sum: 6.5, 5.5 and 3.
    known = critic_loss(said, terms, torch.tensor([0, 1, 2]), torch.tensor([False, True]))
    assert known.item() == pytest.approx((0.0 + 0.5 + 5.5) / 3 + (0.5 + 1.5 + 8) / 3, rel=1e-5)


def test_the_order_pulls_apart_what_stands_in_the_wrong_order() -> None:
    said = torch.tensor([[5.0], [5.0]], requires_grad=True)
    guessed = torch.tensor([False])
    critic_loss(said, torch.tensor([[5.0], [5.2]]), torch.tensor([0, 0]), guessed, ranking=10.0).backward()
    assert said.grad is not None
    assert said.grad[0] > 0 > said.grad[1]


def test_batches_hold_several_results_of_each_photograph(configure: Configure) -> None:
    count = 40
    judged = ScoredImages(
        torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4).clone(),
        torch.arange(count, dtype=torch.float32)[:, None],
        torch.arange(count) // 8,
        torch.zeros(count, dtype=torch.bool),
        ((),) * 5,
    )
    judged.images[..., 0] += 100
    rows = list(torch.arange(count).split(8))
    config = configure()
    for step in range(10):
        images, terms, sample = sample_batch(judged, rows, config, step)
        r_q = terms[:, 0]
        assert images.shape == (6, 3, 4, 4) and len(set(r_q.tolist())) == 6
        assert sorted(torch.bincount(sample).tolist())[-2:] == [3, 3]
        assert torch.equal((images * 255).round().amin((1, 2, 3)), r_q), (
            "image, value and sample belong together"
        )
        again = sample_batch(judged, rows, config, step)
        assert all(torch.equal(a, b) for a, b in zip((images, terms, sample), again, strict=True))
    seen = [sample_batch(judged, rows, config, step)[0] for step in range(10)]
    left = [bool((images[..., 0] > images[..., 3]).all()) for images in seen]
    right = [bool((images[..., 3] > images[..., 0]).all()) for images in seen]
    assert not all(left) and not all(right), "some are mirrored, some are not"


def test_it_trains_and_what_it_writes_can_be_used(configure: Configure, tmp_path: Path) -> None:
    config = configure()
    watched = train(config)
    assert (
        0 < watched.error < 10 and 0 <= watched.ranking.reference_first <= 1 and watched.ranking.regret >= 0
    )
    values = Critic(config.out / "critic.safetensors").values(torch.rand(2, 3, 32, 40), ())
    assert ((values > 0) & (values < 10)).all()
    assert (config.out / "critic.safetensors").stat().st_size < 3_000_000
    assert list(config.out.glob("events.out.tfevents*"))
    settings = (config.out / "config.json").read_text()
    assert str(tmp_path) not in settings.replace(config.toolbox, "")


def test_it_learns(configure: Configure) -> None:
    """The order of the few images that it is shown, and their values."""
    config = configure(steps=80, groups=4, results=4, val_every=80)
    before = train(replace(config, out=config.out.with_name("before"), steps=1, lr=0.0))
    after = train(config)
    judged = ScoredImages.join(
        [ScoredImages.load(path) for path in sorted((config.out / "train").glob("*.npz"))]
    )
    values = Critic(config.out / "critic.safetensors").values(judged.images / 255, ())
    assert np.corrcoef(values.numpy(), judged.r_q.numpy())[0, 1] > 0.7
    assert after.ranking.spearman > before.ranking.spearman + 0.2


def test_a_run_that_goes_on_ends_where_it_would_have(
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
    assert all(torch.equal(before[name], after[name]) for name in before), "a finished run stays as it is"


def test_another_run_is_not_overwritten(configure: Configure) -> None:
    train(configure(steps=1))
    with pytest.raises(AgentError, match="lr"):
        train(configure(steps=1, lr=1e-5))


def test_a_reward_without_bounds_is_refused(configure: Configure) -> None:
    with pytest.raises(AgentError, match="paper"):
        train(configure(reward="paper"))


def test_the_encoder_can_be_a_detectors(configure: Configure, tmp_path: Path) -> None:
    torch.manual_seed(3)
    detector, net = Detector(8), CriticNet()
    path = tmp_path / "detector.safetensors"
    save_file({name: value.half() for name, value in detector.state_dict().items()}, path)
    load_encoder(net.encoder, path)
    for mine, theirs in zip(net.encoder.parameters(), detector.encoder.parameters(), strict=True):
        assert torch.equal(mine, theirs.half().float())
    plain, started = configure("plain", steps=1), configure("started", steps=1, encoder=path)
    train(plain)
    train(started)
    assert not equal(plain.out, started.out)


def test_what_is_no_encoder(tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError):
        load_encoder(CriticNet().encoder, tmp_path / "none.safetensors")
    save_file(
        {"encoder.stem.weight": torch.zeros(1), "head": torch.zeros(2)}, tmp_path / "other.safetensors"
    )
    with pytest.raises(AgentError, match="encoder"):
        load_encoder(CriticNet().encoder, tmp_path / "other.safetensors")


def test_cuts_are_of_one_place(configure: Configure) -> None:
    """All images of a photograph are cut alike, mirrored alike, and elsewhere the next time."""
    place = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).expand(6, 3, 8, 8)
    judged = ScoredImages(
        place.clone(), torch.ones(6, 1), torch.zeros(6).long(), torch.zeros(6).bool(), ((),)
    )
    config = configure(cut=5)
    seen = [sample_batch(judged, [torch.arange(6)], config, step)[0] for step in range(10)]
    assert all(images.shape == (3, 3, 5, 5) and (images == images[:1]).all() for images in seen)
    assert len({images.amin().item() for images in seen}) > 3
    (whole, _, _) = sample_batch(judged, [torch.arange(6)], configure(cut=20), 0)
    assert whole.shape == (3, 3, 8, 8)


def test_batches_differ_from_step_to_step(configure: Configure) -> None:
    config = configure(steps=1)
    train(config)
    judged = ScoredImages.load(config.out / "train" / "000.npz")
    rows = [torch.from_numpy(np.flatnonzero(judged.sample == number)) for number in range(4)]
    first, second = (sample_batch(judged, rows, config, step) for step in (0, 1))
    assert first[1].tolist() != second[1].tolist()
