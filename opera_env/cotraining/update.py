"""The execution update: one step of training all tools of a batch of plans, in place."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from opera_env.cotraining.differentiable import Checkpointing, DifferentiablePlans
from opera_env.cotraining.distributed import DistributedContext
from opera_env.cotraining.losses import LossWeights, RestorationLoss, get_loss_weights, weighted_loss
from opera_env.data.images import resize
from opera_env.errors import ExecutionUpdateError, ToolboxError
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample


@dataclass(frozen=True)
class ExecutionConfig:
    """How tools are trained under plans.

    Attributes:
        loss: A preset by name, or weights of one's own.
        lr: Learning rate of every tool; the paper's, for networks of 26 M parameters, is 1e-6.
        warmup: Steps over which it rises to that: networks that were trained are not to be shaken.
        decay: Let it fall to zero by a cosine over all epochs.
        clip: Largest norm of the gradient of all tools of a step together.
        epochs: How many there will be; perceptual terms come in over the first 30 % of them.
        steps_per_epoch: Steps that make an epoch.
        at_once: Plans that are run and differentiated together; more need more memory, fewer more time.
        checkpointing: Whether activations are computed again instead of kept.
        autocast: Compute the tools in bfloat16.
        only: Names of the tools that are trained; all of them if there are none.
    """

    loss: str | LossWeights = "lite"
    lr: float = 1e-4
    warmup_steps: int = 0
    cosine_decay: bool = False
    max_grad_norm: float = 0.5
    epochs: int = 20
    steps_per_epoch: int = 100
    micro_batch_size: int = 8
    checkpointing: Checkpointing = "auto"
    autocast: bool = False
    trainable_tools: tuple[str, ...] = ()


class ExecutionUpdate:
    """Trains the tools of a world under plans: whoever shares the toolbox sees them change.

    Each tool has an optimizer of its own (Adam) and learns from the plans that name it: its gradient is
    the mean over those plans, whatever else is in the batch. A tool that a plan repeats learns from
    all of its applications and is clipped once.

    Where torch.distributed is running, the plans of all processes count as one batch, and every
    process ends with the same tools; each may bring other plans, or none that name some tool.

    Args:
        world: A toolbox, or an environment that has one.
        config: How.

    Attributes:
        toolbox: The tools that are trained.
        steps: Steps done.

    Raises:
        ToolboxError: If there is no toolbox, or nothing in it, or in a tool that is named, can be trained.
        UnknownToolError: If a tool that is to be trained is not in it.
        MissingWeightsError: If weights of a term of the loss are not on this machine.

    Example:
        >>> import gymnasium as gym
        >>> env = gym.make("OPERA-Restore-v0", reward="classic")
        >>> update = ExecutionUpdate(env, ExecutionConfig(loss="pixel"))
        >>> _, info = env.reset(seed=0)
        >>> sample = env.unwrapped.rules.sample(env.np_random, {"sample": info["sample"]})
        >>> before = update.toolbox.fingerprint
        >>> figures = update.step([sample], [("unet.denoise", "unet.dejpeg")])
        >>> before != env.unwrapped.toolbox.fingerprint
        True

    Source: section 4.3 and appendix D of the paper. Departures: gradients are averaged tool by tool, not
        over the batch, so that a tool that is seldom used is not moved less; any number of plans a step.
    """

    def __init__(self, world: Any, config: ExecutionConfig = ExecutionConfig()) -> None:
        self.toolbox, self.config, self.steps = get_toolbox(world), config, 0
        self._networks = {tool.name: tool.restore for tool in self.toolbox}
        trained = self.toolbox.subset(config.trainable_tools) if config.trainable_tools else self.toolbox
        self._parameters = {tool.name: tool.parameters for tool in trained if tool.parameters}
        if not self._parameters:
            raise ToolboxError("nothing to train: no tool of this toolbox has parameters.")
        if missing := [name for name in config.trainable_tools if name not in self._parameters]:
            raise ToolboxError(
                f"{', '.join(missing)}: nothing to train. Brighteners are given a curve by add_tone_curves."
            )
        self._target = get_loss_weights(config.loss)
        self._loss = RestorationLoss(self._target).to(self.toolbox.device)
        self._optimizers = {
            name: torch.optim.Adam(parameters, lr=config.lr)
            for name, parameters in self._parameters.items()
        }

    @property
    def epoch(self) -> int:
        """The epoch that the next step belongs to, counted from 1."""
        return 1 + self.steps // self.config.steps_per_epoch

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        lr = self.config.lr * min(1.0, (self.steps + 1) / max(1, self.config.warmup_steps))
        if not self.config.cosine_decay:
            return lr
        done = self.steps / (self.config.epochs * self.config.steps_per_epoch)
        return lr * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    def step(self, samples: Sequence[Sample], plans: Sequence[Plan]) -> dict[str, float]:
        """Runs plans, and moves their tools towards better results.

        Args:
            samples: One per plan, each with its reference.
            plans: Tool names; plans without anything to train count in the loss only.

        Returns:
            ``loss`` and its terms, means over all plans; ``grad_norm`` before it was clipped;
            ``tools``, how many were trained; ``epoch``; and each term's weight as ``weight/TERM``.

        Raises:
            ExecutionUpdateError: If a loss or gradient is not finite, or a sample has no reference. The
                tools and their optimizers are then as they were before the step.
            UnknownToolError: If a plan names a tool that the toolbox lacks.
            ToolFailedError: If a tool raises or lets no gradients through.
            ToolboxError: If networks of the toolbox were replaced after this update was made.
        """
        weights, ranks = (
            self._target.at_epoch(self.epoch, self.config.epochs),
            DistributedContext(self.toolbox.device),
        )
        totals = dict.fromkeys(("loss", *self._loss.names), 0.0)
        failure: Exception | None = None
        try:
            self._check(samples, plans)
            self._choose()
            for rows in self._parts(plans):
                part = [samples[row] for row in rows], [plans[row] for row in rows]
                found = self._backward(*part, weights)
                totals = {name: value + found[name] for name, value in totals.items()}
        except Exception as error:  # noqa: BLE001 - raised below, once the other processes know
            failure = error
        try:
            ranks.raise_if_any_failed(failure)
            count, *sums = ranks.sum_scalars([len(plans), *totals.values()])
            users = ranks.sum_scalars([sum(name in plan for plan in plans) for name in self._parameters])
            used = {name: n for name, n in zip(self._parameters, users, strict=True) if n}
            norm = self._gather(used, ranks)
            for name in used:
                for group in self._optimizers[name].param_groups:
                    group["lr"] = self.lr
                self._optimizers[name].step()
        finally:
            for optimizer in self._optimizers.values():
                optimizer.zero_grad(set_to_none=False)
        self.toolbox.invalidate_fingerprint()
        means = {name: total / max(count, 1) for name, total in zip(totals, sums, strict=True)}
        parts = {f"weight/{name}": getattr(weights, name) for name in self._loss.names}
        figures = {"grad_norm": norm, "tools": float(len(used)), "epoch": float(self.epoch)}
        self.steps += 1
        return means | figures | parts

    def _check(self, samples: Sequence[Sample], plans: Sequence[Plan]) -> None:
        if len(samples) != len(plans):
            raise ValueError(f"expected one plan per sample, found {len(samples)} and {len(plans)}.")
        for sample, plan in zip(samples, plans, strict=True):
            if sample.reference is None:
                raise ExecutionUpdateError(
                    f"{sample.spec} has no reference: tools are trained towards the original image."
                )
            for name in plan:
                self.toolbox[name]
        if any(self.toolbox[name].restore is not network for name, network in self._networks.items()):
            raise ToolboxError(
                "the toolbox has other networks than when this update was made: make a new one."
            )

    def _choose(self) -> None:
        """Lets the trained tools have gradients and no others; another update may have chosen others."""
        for tool in self.toolbox:
            for parameter in tool.parameters:
                parameter.requires_grad_(tool.name in self._parameters)

    def _parts(self, plans: Sequence[Plan]) -> Iterator[list[int]]:
        """Rows that are run together: of about the same length, so that few wait for a long one."""
        order = sorted(range(len(plans)), key=lambda row: len(plans[row]))
        for first in range(0, len(order), self.config.micro_batch_size):
            yield order[first : first + self.config.micro_batch_size]

    def _backward(
        self, samples: Sequence[Sample], plans: Sequence[Plan], weights: LossWeights
    ) -> dict[str, float]:
        """Adds the gradients of some plans to their tools'; returns sums of the loss and its terms."""
        device = self.toolbox.device
        canvases = [sample.canvas for sample in samples]
        images = [sample.lq.to(device) for sample in samples]
        chains = DifferentiablePlans(
            self.toolbox, images, plans, canvases, self.config.checkpointing, self.config.autocast
        )
        totals = dict.fromkeys(("loss", *self._loss.names), 0.0)
        losses: list[Tensor] = []
        for canvas in dict.fromkeys(canvases):
            rows = [row for row, one in enumerate(canvases) if one == canvas]
            result = torch.cat([resize(chains.results[row][None], canvas) for row in rows])
            reference = torch.stack([_reference(samples[row]) for row in rows]).to(device)
            terms = self._loss(result, reference)
            loss = weighted_loss(terms, weights)
            for row, value in zip(rows, loss.tolist(), strict=True):
                if not math.isfinite(value):
                    raise ExecutionUpdateError(
                        f"the loss of the plan {plans[row]} is {value} on {samples[row].spec}: nothing was "
                        "changed. Lower the learning rate, or leave the plan out."
                    )
            losses.append(loss.sum())
            for name, values in {"loss": loss, **terms}.items():
                totals[name] += values.sum().item()
        torch.stack(losses).sum().backward()
        chains.backward()
        return totals

    def _gather(self, used: Mapping[str, float], ranks: DistributedContext) -> float:
        """Averages each tool's gradient over its plans, in all processes, and clips them together."""
        for name, count in used.items():
            gradients = [
                p.grad if p.grad is not None else torch.zeros_like(p) for p in self._parameters[name]
            ]
            for parameter, gradient in zip(
                self._parameters[name], ranks.sum_tensors(gradients), strict=True
            ):
                parameter.grad = gradient.div_(count)
        norm = nn.utils.clip_grad_norm_(self._of(used), self.config.max_grad_norm).item() if used else 0.0
        if not math.isfinite(norm):
            raise ExecutionUpdateError(
                f"a gradient of {', '.join(used)} is not finite: nothing was changed. Lower the learning "
                "rate."
            )
        return norm

    def _of(self, names: Mapping[str, Any]) -> list[nn.Parameter]:
        return [parameter for name in names for parameter in self._parameters[name]]

    def state_dict(self) -> dict[str, Any]:
        """Returns what a run needs to go on exactly, beside the tools' weights."""
        optimizers = {name: optimizer.state_dict() for name, optimizer in self._optimizers.items()}
        return {"steps": self.steps, "optimizers": optimizers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from what :meth:`state_dict` returned.

        Raises:
            ToolboxError: If it is that of other tools.
        """
        if set(state["optimizers"]) != set(self._optimizers):
            raise ToolboxError(
                f"expected the state of {', '.join(self._optimizers)}, found that of "
                f"{', '.join(state['optimizers'])}."
            )
        for name, optimizer in self._optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self.steps = state["steps"]


def get_toolbox(world: Any) -> Toolbox:
    """Returns the toolbox of an environment, or the toolbox itself.

    Raises:
        ToolboxError: If there is none, or it is in other processes.
    """
    toolbox = (
        world
        if isinstance(world, Toolbox)
        else getattr(getattr(world, "unwrapped", world), "toolbox", None)
    )
    if not isinstance(toolbox, Toolbox):
        raise ToolboxError(
            f"expected a toolbox or an environment of this package, found {type(world).__name__}: train "
            "the toolbox that its environments share, and give copies in other processes the new tools "
            "with load_toolbox(folder)."
        )
    return toolbox


def _reference(sample: Sample) -> Tensor:
    assert sample.reference is not None
    return sample.reference
