"""The execution update: which tools are trained, by which gradients; a failed step changes nothing."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
import torch.distributed as dist
from torch import nn

from opera_env.cotraining import ExecutionConfig, ExecutionUpdate, LossWeights
from opera_env.envs.vector import RestoreVectorEnv
from opera_env.errors import (
    ExecutionUpdateError,
    SettingError,
    ToolboxError,
    ToolboxMismatchError,
    UnknownToolError,
)
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample

PIXEL = ExecutionConfig(loss="pixel", lr=1e-2, max_grad_norm=math.inf)
PLANS: list[Plan] = [("tiny.first", "tiny.second"), ("tiny.first",) * 2, ("tiny.brighten",), ()]


def _weights(toolbox: Toolbox) -> dict[str, dict[str, torch.Tensor]]:
    return {
        tool.name: copy.deepcopy(tool.module.state_dict()) for tool in toolbox if tool.module is not None
    }


def _changed(before: dict[str, dict[str, torch.Tensor]], toolbox: Toolbox) -> set[str]:
    after = _weights(toolbox)
    return {
        name
        for name, state in before.items()
        if any(not torch.equal(value, after[name][key]) for key, value in state.items())
    }


def test_only_tools_in_the_plans_are_trained(toolbox: Toolbox, samples: list[Sample]) -> None:
    update, before = ExecutionUpdate(toolbox, PIXEL), _weights(toolbox)
    fingerprint = toolbox.fingerprint
    logs = update.step(samples, PLANS)
    assert _changed(before, toolbox) == {"tiny.first", "tiny.second"}
    assert logs["tools"] == 2 and logs["epoch"] == 1 and update.steps == 1
    assert toolbox.fingerprint != fingerprint
    assert not update.state_dict()["optimizers"]["tiny.enlarge"]["state"]


def test_trainable_tools_restricts_training(toolbox: Toolbox, samples: list[Sample]) -> None:
    """Other tools pass gradients on and stay; a later update for all tools trains them again."""
    before = _weights(toolbox)
    ExecutionUpdate(toolbox, replace(PIXEL, trainable_tools=("tiny.first",))).step(samples, PLANS)
    assert _changed(before, toolbox) == {"tiny.first"}
    assert all(parameter.grad is None for parameter in toolbox["tiny.second"].parameters)
    ExecutionUpdate(toolbox, PIXEL).step(samples, PLANS)
    assert _changed(before, toolbox) == {"tiny.first", "tiny.second"}
    with pytest.raises(UnknownToolError, match=r"tiny\.unknown"):
        ExecutionUpdate(toolbox, replace(PIXEL, trainable_tools=("tiny.unknown",)))


def test_two_updates_share_a_toolbox(toolbox: Toolbox, samples: list[Sample]) -> None:
    """Each trains its own tools, in whichever order the updates were made."""
    updates = {name: ExecutionUpdate(toolbox, replace(PIXEL, trainable_tools=(name,))) for name in PLANS[0]}
    for name, update in updates.items():
        before = _weights(toolbox)
        update.step(samples, PLANS)
        assert _changed(before, toolbox) == {name}


def test_a_tool_without_parameters_cannot_be_trained(toolbox: Toolbox) -> None:
    with pytest.raises(ToolboxError, match=r"tiny\.brighten: nothing to train.*add_tone_curves"):
        ExecutionUpdate(toolbox, replace(PIXEL, trainable_tools=("tiny.first", "tiny.brighten")))


def test_training_lowers_the_loss(toolbox: Toolbox, samples: list[Sample]) -> None:
    update = ExecutionUpdate(toolbox, replace(PIXEL, lr=3e-3))
    losses = [
        update.step(samples, [("tiny.first", "tiny.second")] * len(samples))["loss"] for _ in range(40)
    ]
    assert losses[-1] < 0.9 * losses[0]


def test_gradients_are_averaged_over_the_plans_of_a_tool(
    make_trainable_toolbox: Callable[[], Toolbox], samples: list[Sample]
) -> None:
    alone, together = make_trainable_toolbox(), make_trainable_toolbox()
    gradients: list[list[torch.Tensor]] = []
    for toolbox, chosen in ((alone, [0]), (together, [0, 1, 2])):
        update = ExecutionUpdate(toolbox, PIXEL)
        captured = _capture_gradients(update, "tiny.second")
        plans: list[Plan] = [("tiny.second",), ("tiny.first",), ("tiny.brighten",)]
        update.step([samples[row] for row in chosen], [plans[row] for row in chosen])
        gradients.append(captured)
    torch.testing.assert_close(*gradients)


def _capture_gradients(update: ExecutionUpdate, name: str) -> list[torch.Tensor]:
    """Returns a list that is filled with the gradients that a tool's optimizer uses."""
    captured: list[torch.Tensor] = []
    optimizer = update._optimizers[name]
    optimizer.register_step_pre_hook(
        lambda *_: captured.extend(p.grad.clone() for p in optimizer.param_groups[0]["params"])
    )
    return captured


def test_clipping_counts_a_repeated_tool_once(toolbox: Toolbox, samples: list[Sample]) -> None:
    update = ExecutionUpdate(toolbox, replace(PIXEL, max_grad_norm=1e-3))
    captured = _capture_gradients(update, "tiny.first")
    logs = update.step(samples[:1], [("tiny.first",) * 3])
    norm = torch.stack([gradient.norm() for gradient in captured]).norm().item()
    assert logs["grad_norm"] > 1e-3 and norm == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("micro_batch_size", [1, 3])
def test_the_micro_batch_size_does_not_change_the_step(
    micro_batch_size: int, make_trainable_toolbox: Callable[[], Toolbox], samples: list[Sample]
) -> None:
    toolbox, other_toolbox = make_trainable_toolbox(), make_trainable_toolbox()
    first = ExecutionUpdate(toolbox, PIXEL).step(samples, PLANS)
    second = ExecutionUpdate(other_toolbox, replace(PIXEL, micro_batch_size=micro_batch_size)).step(
        samples, PLANS
    )
    assert first == pytest.approx(second, rel=1e-4)


def test_a_loss_that_is_not_finite_changes_nothing(toolbox: Toolbox, samples: list[Sample]) -> None:
    toolbox.add("tiny.broken", nn.Sequential(nn.Conv2d(3, 3, 1)))
    module = toolbox["tiny.broken"].module
    assert module is not None
    update = ExecutionUpdate(toolbox, replace(PIXEL, micro_batch_size=1))
    update.step(samples, [("tiny.first",)] * len(samples))
    nn.init.constant_(next(module.parameters()), math.nan)
    before, state = _weights(toolbox), copy.deepcopy(update.state_dict())
    with pytest.raises(ExecutionUpdateError, match=r"first.*tiny\.broken.*is nan.*nothing was"):
        update.step(samples[:2], [("tiny.first",), ("tiny.first", "tiny.broken")])
    assert _changed(before, toolbox) <= {"tiny.broken"}  # NaN differs from itself
    assert update.steps == state["steps"]
    first = update.state_dict()["optimizers"]["tiny.first"]["state"]
    torch.testing.assert_close(first, state["optimizers"]["tiny.first"]["state"], rtol=0, atol=0)
    assert update.step(samples[:1], [("tiny.first",)])["loss"] > 0, (
        "no gradient is left from the failed step"
    )


def test_invalid_samples_plans_and_toolboxes_are_refused(toolbox: Toolbox, samples: list[Sample]) -> None:
    update = ExecutionUpdate(toolbox, PIXEL)
    with pytest.raises(ExecutionUpdateError, match="has no reference"):
        update.step([samples[0].blind()], [("tiny.first",)])
    with pytest.raises(UnknownToolError, match=r"tiny\.unknown"):
        update.step(samples[:1], [("tiny.unknown",)])
    with pytest.raises(ValueError, match="one plan per sample"):
        update.step(samples, [()])
    with pytest.raises(ToolboxError, match="found int"):
        ExecutionUpdate(3)
    with pytest.raises(ToolboxError, match="nothing to train"):
        ExecutionUpdate(toolbox.subset(["tiny.brighten"]))


def test_plans_without_trainable_tools_count_in_the_loss(toolbox: Toolbox, samples: list[Sample]) -> None:
    logs = ExecutionUpdate(toolbox, PIXEL).step(samples[:2], [(), ("tiny.brighten",)])
    assert logs["tools"] == 0 and logs["grad_norm"] == 0 and logs["loss"] > 0


def test_resumed_training_equals_uninterrupted_training(
    make_trainable_toolbox: Callable[[], Toolbox], samples: list[Sample], tmp_path: Path
) -> None:
    whole = make_trainable_toolbox()
    update = ExecutionUpdate(whole, PIXEL)
    for _ in range(4):
        update.step(samples, PLANS)
    first = ExecutionUpdate(make_trainable_toolbox(), PIXEL)
    for _ in range(2):
        first.step(samples, PLANS)
    first.toolbox.save(tmp_path / "tools")
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = ExecutionUpdate(Toolbox.load(tmp_path / "tools"), PIXEL)
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for _ in range(2):
        second.step(samples, PLANS)
    assert second.steps == 4 and second.toolbox.fingerprint == whole.fingerprint
    with pytest.raises(ToolboxError, match="expected the state of"):
        ExecutionUpdate(whole.subset(["tiny.first"]), PIXEL).load_state_dict(update.state_dict())


def test_environments_that_share_a_toolbox_change_together(
    toolbox: Toolbox, samples: list[Sample], source: Any, tmp_path: Path
) -> None:
    world = {"toolbox": toolbox, "reward": "classic", "source": source, "obs_size": 64}
    env = gym.make("OPERA-Restore-v0", **world)
    vector_env = RestoreVectorEnv(2, **world)
    spec = samples[0].spec.to_json()
    action = [1, *[0] * 5]

    def reward() -> float:
        env.reset(options={"sample": spec})
        return float(env.step(action)[1])

    before = reward()
    ExecutionUpdate(env, PIXEL).step(samples[:1], [("tiny.first",)])
    assert reward() != before and vector_env.toolbox is toolbox


def test_stale_copies_of_a_toolbox_are_detected_and_updated(
    toolbox: Toolbox,
    make_trainable_toolbox: Callable[[], Toolbox],
    samples: list[Sample],
    source: Any,
    tmp_path: Path,
) -> None:
    copies = gym.vector.SyncVectorEnv(
        [
            lambda: gym.make(
                "OPERA-Restore-v0",
                toolbox=make_trainable_toolbox(),
                reward="classic",
                source=source,
                obs_size=64,
            )
        ]
        * 2
    )
    copies.call("check_toolbox", toolbox.fingerprint)
    ExecutionUpdate(toolbox, PIXEL).step(samples, PLANS)
    with pytest.raises(ToolboxMismatchError, match="a stale copy"):
        copies.call("check_toolbox", toolbox.fingerprint)
    toolbox.save(tmp_path)
    assert copies.call("load_toolbox", tmp_path) == (toolbox.fingerprint,) * 2
    copies.call("check_toolbox", toolbox.fingerprint)
    with pytest.raises(ToolboxMismatchError, match="expected the tools"):
        toolbox.subset(["tiny.first"]).load_weights(tmp_path)


def _run_process(
    rank: int, folder: Path, samples: list[Sample], broken: bool, make: Callable[[], Toolbox]
) -> None:
    """Runs one of two processes, each with half of the plans."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=2)
    try:
        update = ExecutionUpdate(make(), PIXEL)
        rank_slice = slice(rank, None, 2)
        plans = [("tiny.unknown",)] * 2 if broken and rank == 1 else PLANS[rank_slice]
        logs = [update.step(samples[rank_slice], plans) for _ in range(2)]
        torch.save((logs, _weights(update.toolbox)), folder / f"{rank}.pt")
    except (ExecutionUpdateError, UnknownToolError) as error:
        (folder / f"{rank}.txt").write_text(str(error))
    finally:
        dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("broken", [False, True])
def test_two_processes_equal_one(
    broken: bool, make_trainable_toolbox: Callable[[], Toolbox], samples: list[Sample], tmp_path: Path
) -> None:
    context = torch.multiprocessing.get_context("fork")
    processes = [
        context.Process(target=_run_process, args=(rank, tmp_path, samples, broken, make_trainable_toolbox))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    if broken:
        errors = [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)]
        assert "another process stopped" in errors[0] and "tiny.unknown" in errors[1]
        return
    alone = ExecutionUpdate(make_trainable_toolbox(), PIXEL)
    expected = [alone.step(samples, PLANS) for _ in range(2)]
    results = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for logs, weights in results:
        assert [pytest.approx(log, rel=1e-4) for log in logs] == expected
        torch.testing.assert_close(weights, _weights(alone.toolbox), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=0, atol=0)


def test_loss_weights_follow_the_schedule(toolbox: Toolbox, samples: list[Sample]) -> None:
    config = ExecutionConfig(loss=LossWeights(l1=0.4, critic=0.1), epochs=10, steps_per_epoch=2)
    update = ExecutionUpdate(toolbox, config)
    all_logs = [update.step(samples[:1], [("tiny.first",)]) for _ in range(7)]
    assert [logs["epoch"] for logs in all_logs] == [1, 1, 2, 2, 3, 3, 4]
    weights = [logs["weight/l1"] for logs in all_logs]
    assert weights[0] > weights[2] > weights[4] == weights[6] == 0.4


@pytest.mark.parametrize(
    "options",
    [{"checkpointing": "Auto"}, {"micro_batch_size": 0}, {"steps_per_epoch": 0}, {"lr": math.nan}],
)
def test_settings_that_cannot_be_used_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=next(iter(options)).replace("_", "-")):
        ExecutionConfig(**options)
