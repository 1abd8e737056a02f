"""Logging and validation during GRPO training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.tensorboard import SummaryWriter
from transformers import TrainerCallback

from opera_agents.common.validation import Validation, ValidationResult, format_validation, log_validation
from opera_agents.vlm.agent import VLMAgent
from opera_agents.vlm.reward import AnswerScore, AnswerScorer, completion_text
from opera_env.types import SampleSpec


def logging_total_reward(answer_scorer: AnswerScorer, group_size: int) -> Callable[..., list[float]]:
    """Returns the reward function ``total``, which also logs metrics of the answers through TRL."""

    def total(
        completions: Sequence[Any], spec: Sequence[Mapping[str, Any]], log_metric: Any = None, **kwargs: Any
    ) -> list[float]:
        specs = [SampleSpec.from_json(data) for data in spec]
        scores = answer_scorer.score([completion_text(completion) for completion in completions], specs)
        if log_metric is not None:
            for name, value in answer_metrics(scores, group_size).items():
                log_metric(name, value)
        return [answer_score.total for answer_score in scores]

    return total


def answer_metrics(scores: Sequence[AnswerScore], group_size: int) -> dict[str, float]:
    """Returns metrics of a batch of answers by TensorBoard tag.

    Args:
        scores: Scores of the answers, group by group.
        group_size: Number of answers about the same photograph.
    """
    decisions = [answer_score.decision for answer_score in scores]
    groups = [scores[start : start + group_size] for start in range(0, len(scores), group_size)]
    metrics = {
        "degradations_exact_match": [
            answer_score.decision.error is None
            and answer_score.decision.degradations == answer_score.labels
            for answer_score in scores
        ],
        "plan_length": [len(decision.plan) for decision in decisions],
        "reasoning_words": [len((decision.reasoning or "").split()) for decision in decisions],
        "distinct_plans": [len({answer_score.decision.plan for answer_score in group}) for group in groups],
    }
    tool_counts = Counter(name for decision in decisions for name in decision.plan)
    return {
        **{f"answers/{name}": float(np.mean(values)) for name, values in metrics.items()},
        **{f"tool_use/{name}": count / len(decisions) for name, count in tool_counts.items()},
    }


class ValidationCallback(TrainerCallback):
    """Validates the model before the first step, at regular intervals and after the last step.

    Args:
        validation: The validation set.
        make_agent: Wraps the model as an agent.
        out: Folder of the run; scalars are written to ``out/val``.
        val_every: Number of steps between validations.

    Attributes:
        last_result: The last validation; None before the first one.
    """

    def __init__(
        self, validation: Validation, make_agent: Callable[[Any], VLMAgent], out: Path, val_every: int
    ) -> None:
        self.validation, self.make_agent, self.val_every = validation, make_agent, val_every
        self.out = out
        self.last_result: ValidationResult | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 0:
            self._validate(state, kwargs["model"])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % self.val_every == 0 or state.global_step == state.max_steps:
            self._validate(state, kwargs["model"])

    def _validate(self, state: Any, model: Any) -> None:
        """Validates in every process, because all of them gather sharded weights; the first one writes."""
        was_training, agent = model.training, self.make_agent(model.eval())
        self.last_result = self.validation(agent)
        model.train(was_training)
        if not state.is_world_process_zero:
            return
        with SummaryWriter(str(self.out / "val")) as writer:
            log_validation(writer, self.last_result, state.global_step)
            # TensorBoard renders Markdown: indented text is code, in which tags are not taken for HTML.
            completions = "\n\n".join(f"    {text}" for text in agent.completions[:6])
            writer.add_text("val/completions", completions, state.global_step)
        print(f"step {state.global_step}: {format_validation(self.last_result)}", flush=True)
