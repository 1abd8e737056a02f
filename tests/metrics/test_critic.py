"""The critic: bounds, sizes, files, and a comparison with NIQE and PIQE."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from skimage import data
from torch import Tensor

from opera_env.data import bundled
from opera_env.data.images import quantise, resize
from opera_env.degradations import benchmark_recipes
from opera_env.errors import MetricError, MissingWeightsError, WeightsIntegrityError
from opera_env.metrics import MetricSuite
from opera_env.metrics.critic import SHIPPED_CRITIC, Critic, CriticNet, CriticTerm, save_critic
from opera_env.reward import REWARD_PRESETS

PHOTOGRAPHS = (0, 1, 2, 5, 7)
"""Bundled photographs on which nothing was trained: astronaut, cat, coffee, motorcycle and rocket."""


@cache
def critic() -> Critic:
    return Critic()


def score(images: Tensor) -> list[float]:
    return [row["critic"] for row in MetricSuite([critic()])(images, [])]


@cache
def clean_and_degraded() -> tuple[Tensor, Tensor]:
    """Clean and degraded photographs, uint8 (40, 3, 128, 128) each: eight recipes for each photograph."""
    source, rng = bundled(), np.random.default_rng(0)
    specs = [spec for spec in source.list_specs(64, benchmark_recipes(), rng) if spec.index in PHOTOGRAPHS]
    samples = [source.make(spec) for spec in specs]
    clean = torch.stack([quantise(sample.reference) for sample in samples if sample.reference is not None])
    degraded = torch.stack([quantise(resize(sample.lq[None], sample.canvas)[0]) for sample in samples])
    return clean, degraded


def quality(preset: str, images: Tensor) -> np.ndarray:
    reward = REWARD_PRESETS[preset]
    rows = MetricSuite([term.metric for term in reward.terms])(images, [])
    return np.array([sum(reward.contributions(row, ()).values()) for row in rows])


def test_the_critic_prefers_clean_photographs_more_often_than_niqe_and_piqe() -> None:
    clean, degraded = clean_and_degraded()
    assert len(clean) == 40
    accuracy = {
        preset: float(np.mean(quality(preset, clean) > quality(preset, degraded)))
        for preset in ("label_free", "no_reference")
    }
    assert accuracy["label_free"] > accuracy["no_reference"], accuracy
    assert accuracy["label_free"] >= 0.9, accuracy


def test_clean_photographs_score_higher_than_degraded_ones() -> None:
    clean, degraded = clean_and_degraded()
    assert np.mean(score(clean)) > 7.5
    assert np.mean(score(clean)) - np.mean(score(degraded)) > 2


def test_scores_fall_with_the_noise_level(photographs: Tensor) -> None:
    noise = torch.randn(photographs.shape, generator=torch.Generator().manual_seed(1))
    levels = [quantise(photographs / 255 + level * noise) for level in (0, 0.05, 0.15, 0.4)]
    values = np.array([score(images) for images in levels])
    assert (np.diff(values, axis=0) < 0).all()


@pytest.mark.parametrize("size", [(16, 16), (17, 39), (128, 128), (129, 127), (211, 300)], ids=str)
def test_scores_of_images_of_any_size_are_within_the_bounds(size: tuple[int, int]) -> None:
    images = torch.randint(0, 256, (2, 3, *size), generator=torch.Generator().manual_seed(0))
    assert all(0 < value < 10 for value in score(images.to(torch.uint8)))


def test_the_score_of_a_large_photograph_is_close_to_that_of_its_crops() -> None:
    whole = torch.from_numpy(np.ascontiguousarray(data.astronaut())).permute(2, 0, 1)[None]
    noisy = quantise(
        whole / 255 + 0.1 * torch.randn(whole.shape, generator=torch.Generator().manual_seed(0))
    )
    for images, low, high in ((whole, 7.0, 10.0), (noisy, 0.0, 7.0)):
        crops = (
            images.unfold(2, 128, 128)
            .unfold(3, 128, 128)
            .permute(0, 2, 3, 1, 4, 5)
            .reshape(-1, 3, 128, 128)
        )
        (value,) = score(images)
        assert low < value < high
        assert value == pytest.approx(np.mean(score(crops)), abs=1.5)


def test_scores_are_deterministic(noisy: Tensor) -> None:
    values = score(noisy)
    assert score(noisy) == values
    assert [row["critic"] for row in MetricSuite([Critic()])(noisy, [])] == values


@torch.inference_mode()
def test_niqe_and_piqe_are_computed_not_predicted(noisy: Tensor) -> None:
    """NIQE and PIQE contribute as in the preset ``lite``; the network predicts the other terms."""
    images = noisy / 255
    predicted = critic().net(images)[:, :3].sum(1)
    terms = [term for term in REWARD_PRESETS["lite"].terms if term.name in ("niqe32", "piqe")]
    rows = MetricSuite([term.metric for term in terms])(noisy, [])
    computed = [sum(term.contribution(row[term.name]) for term in terms) for row in rows]
    assert critic().values(images, ()).tolist() == pytest.approx(
        (predicted + torch.tensor(computed)).tolist(), abs=1e-4
    )
    small = images[..., :31, :31]
    assert torch.allclose(critic().values(small, ()), critic().net(small).sum(1))


def test_the_terms_equal_those_of_lite() -> None:
    """If this fails, the preset ``lite`` has changed, and the critic must be trained again."""
    terms = REWARD_PRESETS["lite"].terms
    expected = [CriticTerm(term.name, term.low, term.high, term.weight) for term in terms]
    assert list(critic().terms) == expected


def test_undefined_terms_of_a_constant_image_contribute_nothing() -> None:
    flat = torch.zeros(1, 3, 96, 96, dtype=torch.uint8)
    (value,) = score(flat)
    assert value == pytest.approx(critic().net(flat / 255)[0, :3].sum().item(), abs=1e-4)


def test_loading_keeps_the_random_state() -> None:
    before = torch.random.get_rng_state()
    Critic()
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_network_is_frozen() -> None:
    assert not any(parameter.requires_grad for parameter in critic().net.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_scores_on_a_gpu_equal_those_on_the_cpu(noisy: Tensor) -> None:
    on_gpu = MetricSuite([Critic()], "cuda")(noisy, [])
    assert [row["critic"] for row in on_gpu] == pytest.approx(score(noisy), abs=1e-2)


def test_the_shipped_file_is_small_and_records_its_training() -> None:
    assert SHIPPED_CRITIC.stat().st_size < 3_000_000
    assert {value.dtype for value in load_file(SHIPPED_CRITIC).values()} == {torch.float16}
    with safe_open(SHIPPED_CRITIC, "pt") as file:
        training_info = file.metadata()["training"]
    assert '"reward": "lite"' in training_info and '"images": ' in training_info


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match=r"critic.*python -m opera_agents\.critic\.train"):
        Critic(tmp_path / "none.safetensors")


def write_damaged_file(path: Path) -> None:
    path.write_bytes(SHIPPED_CRITIC.read_bytes()[:1000])


def write_other_network(path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, path)


@pytest.mark.parametrize(
    ("write", "error"), [(write_damaged_file, WeightsIntegrityError), (write_other_network, MetricError)]
)
def test_a_file_without_a_critic_is_refused(
    tmp_path: Path, write: Callable[[Path], None], error: type[Exception]
) -> None:
    path = tmp_path / "critic.safetensors"
    write(path)
    with pytest.raises(error, match="critic"):
        Critic(path)


def test_a_saved_critic_can_be_loaded(tmp_path: Path, noisy: Tensor) -> None:
    torch.manual_seed(0)
    path = tmp_path / "own.safetensors"
    save_critic(CriticNet([4.0, 6.0]), [CriticTerm("a", 0, 1, 4.0), CriticTerm("b", 1, 0, 6.0)], path, {})
    own_scores = MetricSuite([Critic(path)])(noisy, [])
    assert [row["critic"] for row in own_scores] != score(noisy)
