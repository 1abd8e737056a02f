"""``detect``: its probabilities for any weights, its plans, and the shipped detector."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from opera_baselines.detect import Detect
from opera_baselines.order import domain_plan
from opera_env.agents import make_agent
from opera_env.data import clean_folder
from opera_env.degradations import DEGRADATIONS, benchmark_recipes
from opera_env.encoder import Detector
from opera_env.envs.observation import Episode, observe
from opera_env.errors import MissingWeightsError, WeightsIntegrityError
from opera_env.tools import Toolbox
from opera_env.types import Observation

MIN_F1 = 0.7
"""Minimum F1 of the shipped detector over all degradations of the benchmark's samples."""

SIZES = ((48, 64), (33, 47), (48, 64), (5, 300), (33, 47))


def save_detector(path: Path, labels: int = len(DEGRADATIONS), bias: Sequence[float] | None = None) -> Path:
    """Writes an untrained detector; with ``bias``, one whose output is the same for every image."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        detector = Detector(labels)
    if bias is not None:
        torch.nn.init.zeros_(detector.head.weight)
        detector.head.bias.data = torch.tensor(bias)
    save_file({key: value.half().contiguous() for key, value in detector.state_dict().items()}, path)
    return path


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return save_detector(tmp_path / "detector.safetensors")


def images(seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(3, *size, generator=generator) for size in SIZES]


def observe_images(images: Sequence[Tensor]) -> list[Observation]:
    return [Observation(image, image) for image in images]


def test_a_detector_of_ones_own_is_named_by_its_file(toolbox: Toolbox, weights: Path) -> None:
    agent = make_agent(f"detect:{weights}", toolbox=toolbox)
    assert isinstance(agent, Detect)
    assert torch.equal(agent.probabilities(images()), Detect(toolbox, path=weights).probabilities(images()))


def test_probabilities_do_not_depend_on_the_batch(toolbox: Toolbox, weights: Path) -> None:
    """Images of several sizes, mixed: each keeps its own probabilities."""
    agent = Detect(toolbox, path=weights)
    together = agent.probabilities(images())
    alone = torch.cat([agent.probabilities([image]) for image in images()])
    assert together.shape == (len(SIZES), len(DEGRADATIONS))
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert len(together.unique(dim=0)) == len(SIZES)


def test_large_batches_are_split(toolbox: Toolbox, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = Detect(toolbox, path=weights)
    whole = agent.probabilities(images())
    monkeypatch.setattr("opera_baselines.detect._MAX_BATCH_PIXELS", 1)
    torch.testing.assert_close(agent.probabilities(images()), whole, atol=1e-5, rtol=0)


def test_saved_detector_is_loaded(toolbox: Toolbox, weights: Path) -> None:
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(0)
        detector = Detector(len(DEGRADATIONS))
        expected = detector(images()[0][None]).sigmoid()
    actual = Detect(toolbox, path=weights).probabilities(images()[:1])
    torch.testing.assert_close(actual, expected, atol=5e-3, rtol=0)  # The file holds fp16.


def test_detected_degradations_are_named_and_removed_in_domain_order(
    toolbox: Toolbox, tmp_path: Path
) -> None:
    present = {"low_light", "noise", "low_resolution"}
    bias = [4.0 if name in present else -4.0 for name in DEGRADATIONS]
    agent = Detect(toolbox, path=save_detector(tmp_path / "biased.safetensors", bias=bias))
    (decision,) = agent.act(observe_images(images()[:1]))
    assert decision.degradations == present
    assert decision.plan == domain_plan(toolbox, present)
    assert set(decision.plan) == {"tiny.brighten", "tiny.blur", "tiny.enlarge"}


@pytest.mark.parametrize(("threshold", "count"), [(0.0, 8), (0.3, 5), (0.5, 3), (0.9, 0)])
def test_threshold_decides_which_degradations_are_present(
    toolbox: Toolbox, tmp_path: Path, threshold: float, count: int
) -> None:
    probabilities = torch.tensor([0.1, 0.2, 0.25, 0.35, 0.45, 0.55, 0.7, 0.85])
    path = save_detector(tmp_path / "graded.safetensors", bias=probabilities.logit().tolist())
    (decision,) = Detect(toolbox, threshold=threshold, path=path).act(observe_images(images()[:1]))
    assert decision.degradations == set(DEGRADATIONS[8 - count :])


def test_all_detected_degradations_are_named_when_the_plan_is_cut(toolbox: Toolbox, tmp_path: Path) -> None:
    path = save_detector(tmp_path / "sure.safetensors", bias=[4.0] * 8)
    (decision,) = Detect(toolbox, max_tools=2, path=path).act(observe_images(images()[:1]))
    assert len(decision.plan) == 2
    assert decision.degradations == set(DEGRADATIONS)


def test_a_detector_of_other_labels_names_those(toolbox: Toolbox, tmp_path: Path) -> None:
    path = save_detector(tmp_path / "own.safetensors", labels=2, bias=[-4.0, 4.0])
    toolbox.add("tiny.defog", torch.nn.Identity(), degradations=["fog"])
    agent = Detect(toolbox, path=path, degradations=["noise", "fog"])
    (decision,) = agent.act(observe_images(images()[:1]))
    assert agent.degradations == ("noise", "fog")
    assert (decision.plan, decision.degradations) == (("tiny.defog",), {"fog"})
    assert Detect(toolbox).degradations == DEGRADATIONS
    sure = save_detector(tmp_path / "sure.safetensors", labels=2, bias=[4.0, 4.0])
    agent = Detect(toolbox, path=sure, degradations=["fog", "noise"])
    (decision,) = agent.act(observe_images(images()[:1]))
    assert decision.plan == ("tiny.blur", "tiny.defog"), "the last label is restored first"


def test_error_for_a_missing_file_names_path_and_remedy(toolbox: Toolbox, tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match=r"detector.*nowhere\.safetensors.*detect:FILE"):
        Detect(toolbox, path=tmp_path / "nowhere.safetensors")


def test_files_of_another_kind_raise(toolbox: Toolbox, weights: Path, tmp_path: Path) -> None:
    other_weights = save_detector(tmp_path / "five.safetensors", labels=5)
    with pytest.raises(WeightsIntegrityError, match=r"'head.weight' of shape \(8, 256\).*\(5, 256\)"):
        Detect(toolbox, path=other_weights)
    save_file({"head.weight": torch.zeros(8, 256)}, other_weights)
    with pytest.raises(WeightsIntegrityError, match=r"found others with '.*' of shape None"):
        Detect(toolbox, path=other_weights)
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(WeightsIntegrityError, match="unreadable"):
        Detect(toolbox, path=weights)


@pytest.mark.needs_shared_data
def test_shipped_detector_recognises_degradations(toolbox: Toolbox, shared_data: Path) -> None:
    """On photographs that it was not trained on."""
    source = clean_folder(shared_data / "bsds500" / "val")
    specs = source.list_specs(48, benchmark_recipes(), np.random.default_rng(0))
    samples = [source.make(spec) for spec in specs]
    decisions = Detect(toolbox).act([observe(Episode(sample), 6) for sample in samples])
    hits = wrong = 0
    for sample, decision in zip(samples, decisions, strict=True):
        assert sample.degradations is not None and decision.degradations is not None
        hits += len(sample.degradations & decision.degradations)
        wrong += len(sample.degradations ^ decision.degradations)
    assert 2 * hits / (2 * hits + wrong) > MIN_F1
