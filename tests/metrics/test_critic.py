"""The critic: bounds, sizes, files, and that it knows a clean photograph better than NIQE and PIQE do."""

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
"""Of the bundled ones: astronaut, cat, coffee, motorcycle and rocket. Nobody trained on any."""


@cache
def critic() -> Critic:
    return Critic()


def judge(images: Tensor) -> list[float]:
    return [row["critic"] for row in MetricSuite([critic()])(images, [])]


@cache
def damaged() -> tuple[Tensor, Tensor]:
    """Clean and damaged photographs, uint8 (40, 3, 128, 128) each: eight combinations for each of them."""
    source, rng = bundled(), np.random.default_rng(0)
    specs = [spec for spec in source.list_specs(64, benchmark_recipes(), rng) if spec.index in PHOTOGRAPHS]
    samples = [source.make(spec) for spec in specs]
    clean = torch.stack([quantise(sample.reference) for sample in samples if sample.reference is not None])
    dirty = torch.stack([quantise(resize(sample.lq[None], sample.canvas)[0]) for sample in samples])
    return clean, dirty


def quality(preset: str, images: Tensor) -> np.ndarray:
    reward = REWARD_PRESETS[preset]
    rows = MetricSuite([term.metric for term in reward.terms])(images, [])
    return np.array([sum(reward.contributions(row, ()).values()) for row in rows])


def test_clean_is_above_damaged_more_often_than_by_niqe_and_piqe() -> None:
    clean, dirty = damaged()
    assert len(clean) == 40
    right = {
        preset: float(np.mean(quality(preset, clean) > quality(preset, dirty)))
        for preset in ("label_free", "no_reference")
    }
    assert right["label_free"] > right["no_reference"], right
    assert right["label_free"] >= 0.9, right


def test_clean_photographs_earn_much_and_ruined_ones_little() -> None:
    clean, dirty = damaged()
    assert np.mean(judge(clean)) > 7.5
    assert np.mean(judge(clean)) - np.mean(judge(dirty)) > 2


def test_more_noise_is_worse(photographs: Tensor) -> None:
    noise = torch.randn(photographs.shape, generator=torch.Generator().manual_seed(1))
    levels = [quantise(photographs / 255 + level * noise) for level in (0, 0.05, 0.15, 0.4)]
    values = np.array([judge(images) for images in levels])
    assert (np.diff(values, axis=0) < 0).all()


@pytest.mark.parametrize("size", [(16, 16), (17, 39), (128, 128), (129, 127), (211, 300)], ids=str)
def test_any_size_gets_a_value_inside_the_bounds(size: tuple[int, int]) -> None:
    images = torch.randint(0, 256, (2, 3, *size), generator=torch.Generator().manual_seed(0))
    assert all(0 < value < 10 for value in judge(images.to(torch.uint8)))


def test_a_large_photograph_is_judged_like_its_parts() -> None:
    whole = torch.from_numpy(np.ascontiguousarray(data.astronaut())).permute(2, 0, 1)[None]
    noisy = quantise(
        whole / 255 + 0.1 * torch.randn(whole.shape, generator=torch.Generator().manual_seed(0))
    )
    for images, low, high in ((whole, 7.0, 10.0), (noisy, 0.0, 7.0)):
        parts = (
            images.unfold(2, 128, 128)
            .unfold(3, 128, 128)
            .permute(0, 2, 3, 1, 4, 5)
            .reshape(-1, 3, 128, 128)
        )
        (value,) = judge(images)
        assert low < value < high
        assert value == pytest.approx(np.mean(judge(parts)), abs=1.5)


def test_equal_images_get_equal_values_from_any_critic(noisy: Tensor) -> None:
    values = judge(noisy)
    assert judge(noisy) == values
    assert [row["critic"] for row in MetricSuite([Critic()])(noisy, [])] == values


@torch.inference_mode()
def test_what_needs_no_reference_is_computed(noisy: Tensor) -> None:
    """NIQE and PIQE exactly as the preset ``lite`` counts them, the rest by the network."""
    images = noisy / 255
    guessed = critic().net(images)[:, :3].sum(1)
    terms = [term for term in REWARD_PRESETS["lite"].terms if term.name in ("niqe32", "piqe")]
    rows = MetricSuite([term.metric for term in terms])(noisy, [])
    known = [sum(term.contribution(row[term.name]) for term in terms) for row in rows]
    assert critic().values(images, ()).tolist() == pytest.approx(
        (guessed + torch.tensor(known)).tolist(), abs=1e-4
    )
    small = images[..., :31, :31]
    assert torch.allclose(critic().values(small, ()), critic().net(small).sum(1))


def test_its_parts_are_those_of_lite() -> None:
    """Else ``lite`` has changed, and the critic must be trained again."""
    terms = REWARD_PRESETS["lite"].terms
    expected = [CriticTerm(term.name, term.low, term.high, term.weight) for term in terms]
    assert list(critic().terms) == expected


def test_a_flat_image_gets_what_its_worst_values_earn() -> None:
    flat = torch.zeros(1, 3, 96, 96, dtype=torch.uint8)
    (value,) = judge(flat)
    assert value == pytest.approx(critic().net(flat / 255)[0, :3].sum().item(), abs=1e-4)


def test_making_one_leaves_chance_alone() -> None:
    before = torch.random.get_rng_state()
    Critic()
    assert torch.equal(before, torch.random.get_rng_state())


def test_nothing_is_learned_by_judging() -> None:
    assert not any(parameter.requires_grad for parameter in critic().net.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_it_moves_to_a_gpu(noisy: Tensor) -> None:
    there = MetricSuite([Critic()], "cuda")(noisy, [])
    assert [row["critic"] for row in there] == pytest.approx(judge(noisy), abs=1e-2)


def test_the_shipped_file_is_small_and_says_where_it_comes_from() -> None:
    assert SHIPPED_CRITIC.stat().st_size < 3_000_000
    assert {value.dtype for value in load_file(SHIPPED_CRITIC).values()} == {torch.float16}
    with safe_open(SHIPPED_CRITIC, "pt") as file:
        about = file.metadata()["training"]
    assert '"reward": "lite"' in about and '"images": ' in about


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match=r"critic.*python -m opera_agents\.critic\.train"):
        Critic(tmp_path / "none.safetensors")


def damage(path: Path) -> None:
    path.write_bytes(SHIPPED_CRITIC.read_bytes()[:1000])


def other_network(path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, path)


@pytest.mark.parametrize(
    ("spoil", "error"), [(damage, WeightsIntegrityError), (other_network, MetricError)]
)
def test_a_file_that_is_no_critics(
    tmp_path: Path, spoil: Callable[[Path], None], error: type[Exception]
) -> None:
    path = tmp_path / "critic.safetensors"
    spoil(path)
    with pytest.raises(error, match="critic"):
        Critic(path)


def test_another_file_is_another_critic(tmp_path: Path, noisy: Tensor) -> None:
    torch.manual_seed(0)
    path = tmp_path / "own.safetensors"
    save_critic(CriticNet([4.0, 6.0]), [CriticTerm("a", 0, 1, 4.0), CriticTerm("b", 1, 0, 6.0)], path, {})
    own = MetricSuite([Critic(path)])(noisy, [])
    assert [row["critic"] for row in own] != judge(noisy)
