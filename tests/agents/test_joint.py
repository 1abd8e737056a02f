"""Tools and planner are trained in turn, with small settings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from opera_agents.joint import JointConfig, train
from opera_agents.planner.agent import make_planner
from opera_agents.planner.saved import PolicyCard, save_policy
from opera_env.errors import RunError
from opera_env.tools import Toolbox


@pytest.mark.slow
def test_tools_and_planner_are_trained_in_turn(photos: Path, tmp_path: Path) -> None:
    names = ["unet.denoise", "unet.dejpeg", "brighten.gamma_correction"]
    toolbox = Toolbox.load("lite").subset(names)
    toolbox.save(tmp_path / "toolbox")
    card = PolicyCard(toolbox.signature, toolbox.names, max_tools=3)
    save_policy(card.build(), card, tmp_path / "planner0")
    config = JointConfig(
        (photos,),
        photos,
        tmp_path / "run",
        str(tmp_path / "toolbox"),
        tmp_path / "planner0",
        rounds=2,
        epochs=1,
        steps_per_epoch=2,
        tools_batch_size=4,
        loss="pixel",
        updates=2,
        planner_batch_size=2,
        reward="classic",
        max_tools=3,
        canvas=64,
        val_count=3,
        threads=1,
        device="cpu",
    )
    rewards = train(config)
    assert len(rewards) == 4
    tools = Toolbox.load(config.out / "2-tools" / "toolbox")
    assert tools.fingerprint != Toolbox.load(config.out / "1-tools" / "toolbox").fingerprint
    make_planner(tools, path=config.out / "2-planner")
    settings = json.loads((config.out / "2-tools" / "config.json").read_text())
    assert settings["agent"]["name"] == "planner:run/1-planner"
    events = EventAccumulator(str(config.out)).Reload()
    assert [event.step for event in events.Scalars("joint/reward")] == [1, 2, 3, 4]
    for run in ("1-tools", "1-planner", "2-tools", "2-planner"):
        assert "val/reward" in EventAccumulator(str(config.out / run)).Reload().Tags()["scalars"]
    assert train(config) == pytest.approx(rewards), "finished phases are not trained further"
    with pytest.raises(RunError, match="was trained for 2 rounds, which cannot become 1"):
        train(replace(config, rounds=1))
    with pytest.raises(RunError, match=r"\(epochs 1, now 2\)"):
        train(replace(config, epochs=2))
    longer = train(replace(config, rounds=3))
    assert longer[:4] == pytest.approx(rewards) and len(longer) == 6
