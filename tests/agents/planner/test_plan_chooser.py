"""Plans that the value network of a planner's run chooses, for agents that imitate them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from opera_agents.common.batches import draw_samples, observe_batch
from opera_agents.planner.imitation import choose_plans
from opera_agents.planner.plan_chooser import NUM_CANDIDATES, load_chooser
from opera_agents.planner.plan_value import PlanValue
from opera_agents.planner.saved import PolicyCard, save_policy, save_weights
from opera_env.data import SyntheticSource, clean_folder
from opera_env.degradations import DEGRADATIONS
from opera_env.errors import MissingWeightsError, ToolboxMismatchError
from opera_env.plan import PlanCodec
from opera_env.tools import Toolbox


@pytest.fixture
def source(photos: Path) -> SyntheticSource:
    return clean_folder(photos, 64)


@pytest.fixture
def run(toolbox: Toolbox, tmp_path: Path) -> Path:
    """The folder of a run whose GRPO has changed the encoder."""
    torch.manual_seed(0)
    card = PolicyCard(toolbox.signature, toolbox.names, max_tools=3)
    save_weights(card.build(), tmp_path / "imitation.safetensors")
    save_weights(PlanValue(256, len(toolbox)), tmp_path / "value.safetensors")
    save_policy(card.build(), card, tmp_path)
    return tmp_path


def test_plans_are_the_choices_of_the_value_network_on_features_of_its_encoder(
    run: Path, toolbox: Toolbox, source: SyntheticSource
) -> None:
    samples = draw_samples(source, 5, np.random.default_rng(0))
    chooser = load_chooser(run, toolbox, DEGRADATIONS, 3, 0.01)
    plans = chooser(samples, np.random.default_rng(1))
    policy = PolicyCard(toolbox.signature, toolbox.names, max_tools=3).build()
    policy.load_state_dict(chooser.policy.state_dict())
    with torch.no_grad():
        features = policy.encode(observe_batch(samples, 3, torch.device("cpu")))
    expected = choose_plans(
        chooser.value,
        features,
        samples,
        toolbox,
        np.random.default_rng(1),
        count=NUM_CANDIDATES,
        max_tools=3,
        tool_cost=0.01,
    )
    codec = PlanCodec(toolbox.names, 3)
    assert plans == [codec.decode(tokens) for tokens in expected.tolist()]
    assert len(set(plans)) > 1
    assert chooser(samples, np.random.default_rng(1)) == plans
    free = load_chooser(run, toolbox, DEGRADATIONS, 3, 100.0)(samples, np.random.default_rng(1))
    assert free == [()] * 5, "no tool is worth its cost"


def test_the_encoder_is_that_of_the_imitation(run: Path, toolbox: Toolbox) -> None:
    chooser = load_chooser(run, toolbox, DEGRADATIONS, 3, 0.0)
    save_weights(chooser.policy, run / "again.safetensors")
    assert (run / "again.safetensors").read_bytes() == (run / "imitation.safetensors").read_bytes()
    assert (run / "again.safetensors").read_bytes() != (run / "planner.safetensors").read_bytes()
    assert not chooser.policy.training and not chooser.value.training


def test_runs_without_a_value_network_or_of_other_tools_are_refused(run: Path, toolbox: Toolbox) -> None:
    with pytest.raises(ToolboxMismatchError):
        load_chooser(run, toolbox.subset(["tiny.blur"]), DEGRADATIONS, 3, 0.0)
    (run / "value.safetensors").unlink()
    with pytest.raises(MissingWeightsError, match=r"value\.safetensors.*--table"):
        load_chooser(run, toolbox, DEGRADATIONS, 3, 0.0)
