"""Samples of a table in GRPO: what is drawn, the loss, runs with them, and settings that are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from opera_agents.planner.policy import PlanPolicy, SampledPlans
from opera_agents.planner.reward_table import RewardTable, collect
from opera_agents.planner.table_samples import TableBatch, draw_table_batch, table_loss
from opera_agents.planner.train import train
from opera_env.data import SyntheticSource, clean_folder
from opera_env.degradations import DEGRADATIONS
from opera_env.errors import RunError, SettingError
from tests.agents.planner.conftest import Configure, ConfigureTable

CPU = torch.device("cpu")


@pytest.fixture
def source(photos: Path) -> SyntheticSource:
    return clean_folder(photos, 64)


@pytest.fixture
def table(source: SyntheticSource) -> RewardTable:
    """Five samples with the empty plan, one tool, two tools, which are best, and a repetition."""
    rng = np.random.default_rng(0)
    plans = np.array([[0, 0, 0], [1, 0, 0], [2, 3, 0], [0, 0, 0]], np.uint8)
    r_q = rng.uniform(0, 5, (5, 4)).astype(np.float32)
    r_q[:, 2] += 5
    r_q[:, 3] = r_q[:, 0]
    return RewardTable(tuple(source.draw(rng) for _ in range(5)), np.stack([plans] * 5), r_q)


def draw(table: RewardTable, source: SyntheticSource, configure: Configure, seed: int = 0) -> TableBatch:
    config = configure(table=Path("table"), table_fraction=0.5, batch_size=6, tool_cost=0.5)
    return draw_table_batch(table, source, np.random.default_rng(seed), config, CPU)


def test_samples_are_drawn_with_the_rewards_of_their_candidates(
    table: RewardTable, source: SyntheticSource, configure: Configure
) -> None:
    batch = draw(table, source, configure)
    assert batch.images.shape == (3, 3, 64, 64) and batch.plans.dtype == torch.int64
    for row, sample in enumerate(batch.samples):
        r_q = torch.from_numpy(table.r_q[table.specs.index(sample.spec)])
        assert torch.equal(batch.rewards[row], r_q - 0.5 * torch.tensor([0, 1, 2, 0]))
    assert batch.is_candidate.tolist() == [[True, True, True, False]] * 3
    assert torch.equal(draw(table, source, configure).images, batch.images)


def test_the_loss_is_that_of_plans_and_of_labels(
    table: RewardTable, source: SyntheticSource, configure: Configure
) -> None:
    torch.manual_seed(0)
    policy, batch = PlanPolicy(3, len(DEGRADATIONS), 3), draw(table, source, configure)
    with torch.no_grad():
        features = policy.encode(batch.images)
        expected = []
        for row in range(3):
            plans = SampledPlans(torch.zeros(3, 8, dtype=torch.bool), batch.plans[row, :3])
            log_prob = policy.evaluate_actions(features[row].expand(3, -1), plans).plan_log_prob
            expected.append((log_prob.softmax(0) * batch.rewards[row, :3]).sum())
    loss, reward = table_loss(policy, batch, DEGRADATIONS, 0.0)
    assert reward.item() == pytest.approx(torch.stack(expected).mean().item(), rel=1e-4)
    assert loss.item() == -reward.item()
    with_labels, _ = table_loss(policy, batch, DEGRADATIONS, 0.5)
    assert with_labels.item() > loss.item()


def test_steps_on_a_table_raise_the_expected_reward_to_the_best_candidates(
    table: RewardTable, source: SyntheticSource, configure: Configure
) -> None:
    torch.manual_seed(0)
    policy, batch = PlanPolicy(3, len(DEGRADATIONS), 3), draw(table, source, configure)
    policy.detector.requires_grad_(False)
    optimizer = torch.optim.Adam(policy.transformer.parameters(), lr=1e-2)
    rewards: list[float] = []
    for _ in range(8):
        loss, reward = table_loss(policy, batch, DEGRADATIONS, 0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rewards.append(reward.item())
    best = batch.rewards[:, :3].amax(1).mean().item()
    assert rewards[0] < best - 1 < best - 0.2 < rewards[-1] <= best + 1e-3


@pytest.fixture
def table_folder(configure_table: ConfigureTable) -> Path:
    config = configure_table(shards=1, samples=4)
    collect(config)
    return config.out


@pytest.mark.slow
def test_a_run_draws_a_fraction_of_each_update_from_the_table(
    configure: Configure, table_folder: Path
) -> None:
    """Two of four samples come from the table, whose plans do not run: two groups of four are left."""
    config = configure(
        warm_start_steps=1,
        table=table_folder,
        table_fraction=0.5,
        value_epochs=1,
        imitation_steps=1,
        updates=2,
        batch_size=4,
        enlarged=False,
    )
    train(config)
    run = EventAccumulator(str(config.out)).Reload()
    assert [event.value <= 2 * 4 * event.step for event in run.Scalars("budget/images_scored")] == [
        True
    ] * 2
    assert [event.step for event in run.Scalars("train/table_reward")] == [1, 2]
    assert all(0 < event.value < 10 for event in run.Scalars("train/table_reward"))


def test_fractions_and_tables_that_do_not_fit_are_refused(configure: Configure, table_folder: Path) -> None:
    with pytest.raises(SettingError, match=r"--table-fraction 0\.5: .*--table"):
        configure(table_fraction=0.5)
    with pytest.raises(SettingError, match="leaves one of the 2 samples"):
        configure(table=table_folder, table_fraction=0.9)
    with pytest.raises(RunError, match=r"collected with --reward classic, .* --reward lite"):
        train(configure(table=table_folder, table_fraction=0.5, reward="lite", enlarged=False))
    config = configure(table=table_folder, table_fraction=0.5, max_tools=4, enlarged=False)
    with pytest.raises(RunError, match="collected with --max-tools 3"):
        train(config)
    assert not config.out.exists()
