"""The execution update: one training step of all tools in a batch of plans, in place."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from opera_env.cotraining.config import ExecutionConfig
from opera_env.cotraining.differentiable import DifferentiablePlans
from opera_env.cotraining.distributed import DistributedContext
from opera_env.cotraining.losses import LossWeights, RestorationLoss, get_loss_weights, weighted_loss
from opera_env.data.images import resize
from opera_env.errors import ExecutionUpdateError, ToolboxError
from opera_env.schedules import cosine_decay, set_learning_rate, warmup_factor
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample


class ExecutionUpdate:
    """Trains the tools of a toolbox under plans, in place: all environments that share it change.

    Each tool has its own Adam optimizer. Its gradient is the mean over the plans that name the tool,
    whatever other plans are in the batch. A tool that occurs several times in a plan gets the sum of the
    gradients of all its occurrences. The gradients of all tools are clipped together.

    Where torch.distributed is running, the plans of all processes count as one batch, and every process
    ends with the same tools. The processes may bring different plans and name different tools.

    Args:
        env_or_toolbox: An environment, whose toolbox is trained, or the toolbox itself.
        config: The settings; by default those of ``ExecutionConfig()``.

    Attributes:
        toolbox: The tools that are trained.
        steps: Number of steps done.

    Raises:
        ToolboxError: If the environment has no toolbox, no tool has parameters, or one of
            ``config.trainable_tools`` has none.
        UnknownToolError: If one of ``config.trainable_tools`` is not in the toolbox.
        MissingWeightsError: If the weight file of a term of the loss is not on this machine.

    Example:
        >>> import gymnasium as gym
        >>> from opera_env.types import SampleSpec
        >>> env = gym.make("OPERA-Restore-v0", reward="classic")
        >>> update = ExecutionUpdate(env, ExecutionConfig(loss="pixel"))
        >>> _, info = env.reset(seed=0)
        >>> sample = env.unwrapped.rules.source.make(SampleSpec.from_json(info["sample"]))
        >>> before = update.toolbox.fingerprint
        >>> logs = update.step([sample], [("unet.denoise", "unet.dejpeg")])
        >>> before != env.unwrapped.toolbox.fingerprint
        True

    Source: section 4.3 and appendix D of the paper. Departures: gradients are averaged for each tool over
        its own plans, not over the batch, so that rarely used tools take steps of the same size; a step
        takes any number of plans.
    """

    def __init__(self, env_or_toolbox: Any, config: ExecutionConfig | None = None) -> None:
        config = config or ExecutionConfig()
        self.toolbox, self.config, self.steps = get_toolbox(env_or_toolbox), config, 0
        if self.toolbox.residency is not None:
            raise ToolboxError(
                "expected all tools on the device while they are trained, found a toolbox with a memory "
                "limit: call toolbox.to(device) before."
            )
        self._networks = {tool.name: tool.restore for tool in self.toolbox}
        trainable = self.toolbox.subset(config.trainable_tools) if config.trainable_tools else self.toolbox
        self._parameters = {tool.name: tool.parameters for tool in trainable if tool.parameters}
        if missing := [name for name in config.trainable_tools if name not in self._parameters]:
            raise ToolboxError(
                f"{', '.join(missing)}: nothing to train, for the tool has no parameters, like functions, "
                "ONNX files and served tools. Leave it out; use add_tone_curves for brightening tools."
            )
        if not self._parameters:
            raise ToolboxError(
                "nothing to train: no tool of this toolbox has parameters. Add a module to it."
            )
        self._loss_weights = get_loss_weights(config.loss)
        self._loss = RestorationLoss(self._loss_weights).to(self.toolbox.device)
        self._optimizers = {
            name: torch.optim.Adam(parameters, lr=config.lr)
            for name, parameters in self._parameters.items()
        }

    @property
    def epoch(self) -> int:
        """The epoch of the next step, counted from 1."""
        return 1 + self.steps // self.config.steps_per_epoch

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        lr = self.config.lr * warmup_factor(self.steps, self.config.warmup_steps)
        if not self.config.cosine_decay:
            return lr
        fraction = self.steps / (self.config.epochs * self.config.steps_per_epoch)
        return lr * cosine_decay(min(1.0, fraction), 1)

    def step(self, samples: Sequence[Sample], plans: Sequence[Plan]) -> dict[str, float]:
        """Runs plans, and moves the parameters of their tools once towards a lower loss.

        Args:
            samples: One per plan, each with its reference.
            plans: Tool names in order. Plans without trainable tools count in the logged loss only.

        Returns:
            Values to log: ``loss`` and its unweighted terms, means over all plans; ``grad_norm`` before
            clipping; ``tools``, the number of tools that were trained; ``epoch``; and the weight of each
            term as ``weight/TERM``.

        Raises:
            ValueError: If the numbers of samples and plans differ.
            ExecutionUpdateError: If a loss or gradient is not finite, or a sample has no reference. The
                tools and their optimizers are then as they were before the step.
            UnknownToolError: If a plan names a tool that the toolbox lacks.
            ToolFailedError: If a tool raises an error, or is not differentiable and a tool before it is
                trained.
            ToolboxError: If networks of the toolbox were replaced after this update was made.
        """
        context = DistributedContext(self.toolbox.device)
        loss_weights = self._loss_weights.at_epoch(self.epoch, self.config.epochs)
        totals = dict.fromkeys(("loss", *self._loss.names), 0.0)
        # Run the plans of this process and sum the gradients of their tools.
        failure: Exception | None = None
        try:
            self._check(samples, plans)
            self._set_requires_grad()
            for rows in self._micro_batches(plans):
                values = self._backward(
                    [samples[row] for row in rows], [plans[row] for row in rows], loss_weights
                )
                totals = {name: total + values[name] for name, total in totals.items()}
        except Exception as error:  # noqa: BLE001 - raised below, once the other processes know
            failure = error
        try:
            context.raise_if_any_failed(failure)
            # Average the gradients of each tool over its plans in all processes, and move its parameters.
            num_plans, *sums = context.sum_scalars([len(plans), *totals.values()])
            counts = context.sum_scalars([sum(name in plan for plan in plans) for name in self._parameters])
            plan_counts = {
                name: count for name, count in zip(self._parameters, counts, strict=True) if count
            }
            grad_norm = self._average_and_clip_gradients(plan_counts, context)
            for name in plan_counts:
                set_learning_rate(self._optimizers[name], self.lr)
                self._optimizers[name].step()
        finally:
            for optimizer in self._optimizers.values():
                optimizer.zero_grad(set_to_none=False)
        self.toolbox.invalidate_fingerprint()
        logs = {name: total / max(num_plans, 1) for name, total in zip(totals, sums, strict=True)}
        logs |= {"grad_norm": grad_norm, "tools": float(len(plan_counts)), "epoch": float(self.epoch)}
        logs |= {f"weight/{name}": getattr(loss_weights, name) for name in self._loss.names}
        self.steps += 1
        return logs

    def _check(self, samples: Sequence[Sample], plans: Sequence[Plan]) -> None:
        if len(samples) != len(plans):
            raise ValueError(
                f"expected one plan per sample, found {len(samples)} samples and {len(plans)} plans."
            )
        for sample, plan in zip(samples, plans, strict=True):
            if sample.reference is None:
                raise ExecutionUpdateError(
                    f"{sample.spec} has no reference, which the loss needs: use a source with references."
                )
            for name in plan:
                self.toolbox[name]
        if any(self.toolbox[name].restore is not network for name, network in self._networks.items()):
            raise ToolboxError(
                "networks of the toolbox were replaced after this ExecutionUpdate was made: make a new one."
            )

    def _set_requires_grad(self) -> None:
        """Enables gradients for the trained tools only; another update may have trained other tools."""
        for tool in self.toolbox:
            for parameter in tool.parameters:
                parameter.requires_grad_(tool.name in self._parameters)

    def _micro_batches(self, plans: Sequence[Plan]) -> Iterator[list[int]]:
        """Yields the rows that run together: plans of similar length, so that little memory is wasted."""
        order = sorted(range(len(plans)), key=lambda row: len(plans[row]))
        for start in range(0, len(order), self.config.micro_batch_size):
            yield order[start : start + self.config.micro_batch_size]

    def _backward(
        self, samples: Sequence[Sample], plans: Sequence[Plan], loss_weights: LossWeights
    ) -> dict[str, float]:
        """Adds the gradients of some plans to their tools; returns the sums of the loss and its terms."""
        device = self.toolbox.device
        canvases = [sample.canvas for sample in samples]
        images = [sample.lq.to(device) for sample in samples]
        executed = DifferentiablePlans(
            self.toolbox, images, plans, canvases, self.config.checkpointing, self.config.autocast
        )
        totals = dict.fromkeys(("loss", *self._loss.names), 0.0)
        losses: list[Tensor] = []
        for canvas in dict.fromkeys(canvases):
            rows = [row for row, other in enumerate(canvases) if other == canvas]
            results = torch.cat([resize(executed.results[row][None], canvas) for row in rows])
            references = torch.stack([_reference(samples[row]) for row in rows]).to(device)
            terms = self._loss(results, references)
            loss = weighted_loss(terms, loss_weights)
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
        executed.backward()
        return totals

    def _average_and_clip_gradients(
        self, plan_counts: Mapping[str, float], context: DistributedContext
    ) -> float:
        """Averages the gradients of each tool over its plans in all processes, and clips them together.

        Args:
            plan_counts: How many plans, in all processes, name each tool that is trained in this step.
            context: The processes.

        Returns:
            The norm of the gradients before clipping.
        """
        for name, count in plan_counts.items():
            gradients = [
                parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
                for parameter in self._parameters[name]
            ]
            sums = context.sum_tensors(gradients)
            for parameter, gradient in zip(self._parameters[name], sums, strict=True):
                parameter.grad = gradient.div_(count)
        if not plan_counts:
            return 0.0
        parameters = [parameter for name in plan_counts for parameter in self._parameters[name]]
        norm = nn.utils.clip_grad_norm_(parameters, self.config.max_grad_norm).item()
        if not math.isfinite(norm):
            raise ExecutionUpdateError(
                f"a gradient of {', '.join(plan_counts)} is not finite: nothing was changed. Lower the "
                "learning rate."
            )
        return norm

    def state_dict(self) -> dict[str, Any]:
        """Returns the state that a checkpoint must hold besides the weights of the tools."""
        optimizers = {name: optimizer.state_dict() for name, optimizer in self._optimizers.items()}
        return {"steps": self.steps, "optimizers": optimizers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the state that :meth:`state_dict` has returned.

        Args:
            state: The state of an update of the same tools.

        Raises:
            ToolboxError: If the state is that of other tools.
        """
        if set(state["optimizers"]) != set(self._optimizers):
            raise ToolboxError(
                f"expected the state of {', '.join(self._optimizers)}, found that of "
                f"{', '.join(state['optimizers'])}: train the same tools as before."
            )
        for name, optimizer in self._optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self.steps = state["steps"]


def get_toolbox(env_or_toolbox: Any) -> Toolbox:
    """Returns the toolbox of an environment, or the toolbox itself.

    Raises:
        ToolboxError: If the environment has no toolbox in this process.
    """
    if isinstance(env_or_toolbox, Toolbox):
        return env_or_toolbox
    toolbox = getattr(getattr(env_or_toolbox, "unwrapped", env_or_toolbox), "toolbox", None)
    if not isinstance(toolbox, Toolbox):
        raise ToolboxError(
            f"expected a toolbox or an environment of this package, found "
            f"{type(env_or_toolbox).__name__}. If the "
            "environments run in other processes, train a toolbox in this process, save it, and call "
            "load_toolbox(folder) in the environments."
        )
    return toolbox


def _reference(sample: Sample) -> Tensor:
    assert sample.reference is not None
    return sample.reference
