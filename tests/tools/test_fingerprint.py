"""Signature and fingerprint of a toolbox: what they depend on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from opera_env.tools import Tool, Toolbox
from opera_env.tools.nets import build_net


def _identity(image: torch.Tensor) -> torch.Tensor:
    return image


def test_the_signature_depends_on_names_order_and_scales_only(toolbox: Toolbox, tiny_tool: Any) -> None:
    def box(*rows: tuple[str, int, int]) -> str:
        scales: list[dict[str, int]] = [
            {"scale": 4, "unshuffle": 1} if scale == 4 else {} for _, scale, _ in rows
        ]
        return Toolbox(
            tiny_tool(name, seed, **options) for (name, _, seed), options in zip(rows, scales, strict=True)
        ).signature

    same = box(("a", 1, 0), ("b", 4, 0))
    assert same == box(("a", 1, 7), ("b", 4, 8)), "weights do not matter"
    other_tools = [
        box(("b", 4, 0), ("a", 1, 0)),
        box(("a", 1, 0), ("c", 4, 0)),
        box(("a", 1, 0), ("b", 1, 0)),
        box(("a", 1, 0)),
        box(("a", 1, 0), ("b", 4, 0), ("c", 1, 0)),
    ]
    assert len({same, *other_tools}) == 6
    assert toolbox.signature != Toolbox().signature
    assert Toolbox().add("a", _identity).signature == Toolbox().add("a", lambda image: 1 - image).signature


def test_the_signature_separates_names() -> None:
    pairs = [("ab", "c"), ("a", "bc"), ("a-b", "c")]
    signatures = {Toolbox([Tool(name, _identity) for name in pair]).signature for pair in pairs}
    assert len(signatures) == 3


def test_training_changes_the_fingerprint_but_not_the_signature(toolbox: Toolbox) -> None:
    signature, fingerprint = toolbox.signature, toolbox.fingerprint
    assert toolbox.fingerprint == fingerprint
    module = toolbox["tiny.first"].module
    assert module is not None
    seen = {fingerprint}
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    for _ in range(3):
        module(torch.rand(1, 3, 8, 8)).square().mean().backward()
        optimizer.step()
        seen.add(toolbox.fingerprint)
    assert len(seen) == 4
    assert toolbox.signature == signature


@pytest.mark.parametrize(
    "options",
    [{}, {"foreach": True}, {"foreach": False}, {"fused": True}],
    ids=["default", "foreach", "loop", "fused"],
)
@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD])
def test_every_optimizer_step_changes_the_fingerprint(
    optimizer: Any, options: Any, conv: nn.Module
) -> None:
    toolbox = Toolbox().add("a", conv)
    before = toolbox.fingerprint
    stepper = optimizer(conv.parameters(), lr=1e-2, **options)
    conv(torch.rand(1, 3, 8, 8)).square().mean().backward()
    weight = conv.weight.detach().clone()  # type: ignore[operator, union-attr]
    stepper.step()
    assert not torch.equal(weight, conv.weight)  # type: ignore[arg-type]
    assert toolbox.fingerprint != before


def _in_place(net: nn.Module) -> None:
    with torch.no_grad():
        net.weight.mul_(2)  # type: ignore[union-attr, operator]


def _by_another_parameter(net: nn.Module) -> None:
    net.weight = nn.Parameter(net.weight * 2)  # type: ignore[operator, arg-type]


def _by_loading(net: nn.Module) -> None:
    net.load_state_dict({key: 2 * value for key, value in net.state_dict().items()})


def _by_assigning(net: nn.Module) -> None:
    net.load_state_dict({key: 2 * value for key, value in net.state_dict().items()}, assign=True)


@pytest.mark.parametrize("change", [_in_place, _by_another_parameter, _by_loading, _by_assigning])
def test_every_way_to_change_a_weight_changes_the_fingerprint(change: Any, conv: nn.Module) -> None:
    toolbox = Toolbox().add("a", conv)
    before = toolbox.fingerprint
    change(conv)
    assert toolbox.fingerprint != before


def test_a_write_through_data_counts_after_invalidate_fingerprint(conv: nn.Module) -> None:
    toolbox = Toolbox().add("a", conv)
    before = toolbox.fingerprint
    toolbox.invalidate_fingerprint()
    assert toolbox.fingerprint == before
    conv.weight.data.mul_(2)  # type: ignore[union-attr, operator]
    toolbox.invalidate_fingerprint()
    assert toolbox.fingerprint != before


@pytest.mark.parametrize("constant", ["batch norm", "frozen bias", "buffer"])
def test_a_fused_step_counts_although_the_smallest_tensor_is_constant(
    constant: str, conv: nn.Module
) -> None:
    """Fused optimizers do not increase torch's count of writes, and not every tensor is trained."""
    net = nn.Sequential(conv)
    if constant == "batch norm":
        net.append(nn.BatchNorm2d(3))  # counts its batches, but not in eval mode
    elif constant == "frozen bias":
        conv.bias.requires_grad_(False)  # type: ignore[union-attr, operator]
    else:
        net.register_buffer("mean", torch.zeros(1))
    toolbox = Toolbox().add("a", net)
    before = toolbox.fingerprint
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, fused=True)
    net(torch.rand(1, 3, 8, 8)).square().mean().backward()
    optimizer.step()
    assert toolbox.fingerprint != before


def test_a_changed_buffer_changes_the_fingerprint() -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    toolbox = Toolbox().add("a", net)
    before = toolbox.fingerprint
    net.train()
    net(torch.rand(4, 3, 8, 8))
    assert toolbox.fingerprint != before


def test_restored_weights_have_their_previous_fingerprint(toolbox: Toolbox) -> None:
    before = toolbox.fingerprint
    module = toolbox["tiny.context"].module
    assert module is not None
    original = {key: value.clone() for key, value in module.state_dict().items()}
    with torch.no_grad():
        next(module.parameters()).add_(1)
    assert toolbox.fingerprint != before
    module.load_state_dict(original)
    assert toolbox.fingerprint == before


def test_equal_toolboxes_have_equal_fingerprints(tiny_tool: Any) -> None:
    def fingerprint(*rows: tuple[str, int]) -> str:
        return Toolbox(tiny_tool(name, seed) for name, seed in rows).fingerprint

    assert fingerprint(("a", 1), ("b", 2)) == fingerprint(("a", 1), ("b", 2))
    other_tools = [(("a", 2), ("b", 1)), (("a", 1), ("b", 3)), (("b", 2), ("a", 1)), (("a", 1), ("c", 2))]
    assert len({fingerprint(("a", 1), ("b", 2)), *(fingerprint(*rows) for rows in other_tools)}) == 5


def test_options_of_a_network_without_weights_change_the_fingerprint() -> None:
    prints = {
        Toolbox(
            [Tool("a", build_net("gamma", {"gamma": gamma}), net=("gamma", {"gamma": gamma}))]
        ).fingerprint
        for gamma in (1.5, 2.0)
    }
    assert len(prints) == 2


def test_functions_enter_the_fingerprint_by_identity() -> None:
    shared = Toolbox().add("a", _identity)
    assert shared.fingerprint == Toolbox().add("a", _identity).fingerprint
    assert shared.fingerprint != Toolbox().add("a", lambda image: image).fingerprint


def test_adding_a_tool_changes_the_fingerprint(toolbox: Toolbox) -> None:
    before = toolbox.fingerprint
    toolbox.add("more", _identity)
    assert toolbox.fingerprint != before
