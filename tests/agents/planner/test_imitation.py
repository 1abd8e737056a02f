"""The warm start from a table: features of the same samples, choices by the value, imitation of plans."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from opera_agents.common.batches import draw_samples, observe_batch
from opera_agents.planner import imitation
from opera_agents.planner.imitation import (
    choose_plans,
    encode_table,
    plan_imitation_loss,
    split_photographs,
)
from opera_agents.planner.plan_value import PlanValue
from opera_agents.planner.policy import PlanPolicy
from opera_agents.planner.reward_table import RewardTable, collect
from opera_agents.planner.train import train
from opera_env.data import SyntheticSource, clean_folder
from opera_env.errors import MissingWeightsError, ToolboxMismatchError
from opera_env.tools import Toolbox
from opera_env.weights.tensors import load_tensors
from tests.agents.planner.conftest import Configure, ConfigureTable


@pytest.fixture
def toolbox(small_toolbox: Path) -> Toolbox:
    return Toolbox.load(small_toolbox)


@pytest.fixture
def source(photos: Path) -> SyntheticSource:
    return clean_folder(photos, 64)


@pytest.fixture
def policy(toolbox: Toolbox) -> PlanPolicy:
    torch.manual_seed(0)
    return PlanPolicy(len(toolbox), 8, 3).eval()


def table_of(source: SyntheticSource, count: int) -> RewardTable:
    specs = tuple(source.draw(np.random.default_rng(seed)) for seed in range(count))
    return RewardTable(specs, np.zeros((count, 2, 3), np.uint8), np.zeros((count, 2), np.float32))


def test_the_features_are_those_of_the_tables_samples(source: SyntheticSource, policy: PlanPolicy) -> None:
    table = table_of(source, 5)
    features = encode_table(policy, table, source)
    images = observe_batch([source.make(spec) for spec in table.specs], 3, torch.device("cpu"))
    with torch.inference_mode():
        assert torch.allclose(features[0], policy.encode(images), atol=1e-5)
        assert torch.allclose(features[1], policy.encode(images.flip(-1)), atol=1e-5)


def test_samples_of_one_photograph_are_held_out_together(source: SyntheticSource) -> None:
    table = table_of(source, 40)
    held_out = split_photographs(table, 0.4, seed=0)
    inside = {table.specs[row].source_image for row in held_out}
    outside = {table.specs[row].source_image for row in set(range(40)) - set(held_out)}
    assert inside and outside and not inside & outside


class _PrefersShort(PlanValue):
    """Predicts a reward that falls with the length of the plan, or rises with it."""

    def __init__(self, sign: float) -> None:
        super().__init__(256, 3)
        self.sign = sign

    def forward(self, features: Tensor, plans: Tensor) -> Tensor:
        return self.sign * (plans != 0).sum(2).float()


def test_the_plan_with_the_highest_value_is_chosen(source: SyntheticSource, toolbox: Toolbox) -> None:
    samples = draw_samples(source, 4, np.random.default_rng(0))
    features = torch.zeros(4, 256)

    def choose(sign: float, tool_cost: float = 0.0) -> Tensor:
        rng = np.random.default_rng(1)
        return choose_plans(
            _PrefersShort(sign), features, samples, toolbox, rng, count=20, max_tools=3, tool_cost=tool_cost
        )

    assert (choose(-1.0) == 0).all()
    assert ((choose(1.0) != 0).sum(1) == 3).all()
    assert (choose(1.0, tool_cost=2.0) == 0).all()


def test_the_decoder_imitates_plans_of_its_images(policy: PlanPolicy) -> None:
    features = torch.eye(2, 256)
    plans = torch.tensor([[1, 2, 0], [3, 0, 0]])
    optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
    losses: list[float] = []
    for _ in range(60):
        loss = plan_imitation_loss(policy, features, plans)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 < losses[0]
    assert policy.predict(features).tokens.tolist() == plans.tolist()


@pytest.fixture
def table_folder(configure_table: ConfigureTable) -> Path:
    config = configure_table(samples=4, candidates=6)
    collect(config)
    return config.out


def _settings(table_folder: Path) -> dict[str, Any]:
    return {
        "table": table_folder,
        "value_epochs": 2,
        "imitation_steps": 3,
        "imitation_batch_size": 2,
        "imitation_candidates": 5,
        "updates": 1,
        "enlarged": False,
    }


def test_a_run_with_a_table_resumes_to_the_same_weights(
    configure: Configure, table_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure(**_settings(table_folder))
    train(config)
    with_table = load_tensors(config.out / "planner.safetensors")
    interrupted = configure(out="interrupted", **_settings(table_folder))
    original = imitation.save_weights

    def stop(module: nn.Module, path: Path) -> None:
        if path.name == "imitation.safetensors":
            raise KeyboardInterrupt
        original(module, path)

    monkeypatch.setattr(imitation, "save_weights", stop)
    with pytest.raises(KeyboardInterrupt):
        train(interrupted)
    monkeypatch.setattr(imitation, "save_weights", original)
    monkeypatch.setattr(imitation, "fit_value", None)
    train(interrupted)
    resumed = load_tensors(interrupted.out / "planner.safetensors")
    assert all(torch.equal(with_table[name], resumed[name]) for name in with_table)


def test_the_imitation_changes_the_decoder_and_not_what_the_planner_sees(
    configure: Configure, table_folder: Path
) -> None:
    config = configure(**_settings(table_folder))
    train(config)
    before, after = (load_tensors(config.out / f"{name}.safetensors") for name in ("warm", "imitation"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert not any(name.startswith("detector.") for name in changed)


def test_a_table_of_other_tools_is_refused_before_anything_is_written(
    configure: Configure, table_folder: Path
) -> None:
    config = configure(**_settings(table_folder), toolbox="lite")
    with pytest.raises(ToolboxMismatchError, match="table"):
        train(config)
    assert not config.out.exists()
    with pytest.raises(MissingWeightsError, match="reward_table"):
        train(configure(**_settings(table_folder / "absent")))
