"""Trains a vision-language model by GRPO on the quality of what its plans lead to.

Example:
    python -m opera_agents.vlm.grpo --config agents/opera_agents/vlm/presets/tiny.yaml \
        --model_name_or_path runs/vlm-cold/model --images bsds500/train --val bsds500/val \
        --output_dir runs/vlm
    accelerate launch --config_file fsdp2.yaml -m opera_agents.vlm.grpo \
        --config agents/opera_agents/vlm/presets/7b.yaml --images ... --val ... --output_dir runs/vlm-7b

TRL trains; everything that :class:`trl.GRPOConfig` and :class:`trl.ModelConfig` know is an option here. An
interrupted run goes on with the same command. Curves, and answers with their images, are for tensorboard.

Source: section 4.2 of the paper: groups of 8, no KL term, R = R_q R_d R_f R_c, reasoning before the answer.
"""

# pyright: reportPrivateImportUsage=false
# TRL exports its names lazily.

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from datasets import Dataset
from torch.utils.tensorboard import SummaryWriter
from transformers import AutoModelForImageTextToText, AutoProcessor, TrainerCallback
from transformers.trainer_utils import get_last_checkpoint
from trl import GRPOConfig, GRPOTrainer, ModelConfig, TrlParser, get_peft_config

from opera_agents.common.batches import draw_samples, observe_sample
from opera_agents.common.photographs import training_source
from opera_agents.common.runs import claim_run_dir, folder_name, run_settings, set_threads
from opera_agents.common.seeds import SeedStage, make_rng
from opera_agents.common.validation import Validation, ValidationResult, format_validation, log_validation
from opera_agents.vlm.agent import VLMAgent
from opera_agents.vlm.endpoint import Endpoint
from opera_agents.vlm.judge import EndpointJudge, Judge, LocalJudge, RulesJudge
from opera_agents.vlm.prompt import USER_PROMPT, build_system_prompt, make_grammar
from opera_agents.vlm.reward import AnswerScore, AnswerScorer, completion_text
from opera_agents.vlm.saved import load_card, save_card
from opera_env.data import Source
from opera_env.data.images import to_pil
from opera_env.errors import AgentError
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import SampleSpec

_TRAINING_OPTIONS = (
    *("learning_rate", "lr_scheduler_type", "max_steps", "num_train_epochs", "seed", "max_grad_norm"),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "num_generations", "temperature"),
    *("max_completion_length", "loss_type", "beta", "scale_rewards", "num_iterations", "epsilon"),
)
"""What of TRL's options decides the result."""


@dataclass
class EnvArguments:
    """What the model is trained in."""

    images: str = field(metadata={"help": "Folder of clean photographs to train on."})
    val: str = field(metadata={"help": "Folder of clean photographs to watch it on."})
    toolbox: str = field(default="lite", metadata={"help": "A shipped toolbox, or a folder."})
    reward: str = field(default="lite", metadata={"help": "What counts as quality."})
    form: str = field(default="product", metadata={"help": "product (the paper's) or gated."})
    judge: str = field(
        default="rules",
        metadata={"help": "rules, none (no R_c), a server's address, or a model's folder or name."},
    )
    judge_model: str = field(default="default", metadata={"help": "What that server calls its model."})
    tool_cost: float = field(default=0.0, metadata={"help": "Taken from R_q per tool."})
    max_tools: int = field(default=6, metadata={"help": "Longest plan."})
    canvas: int = field(default=128, metadata={"help": "Side of the crops."})
    clean: float = field(default=1.5, metadata={"help": "Weight of clean photographs."})
    photographs: int = field(default=16_000, metadata={"help": "Photographs of an epoch."})
    instructions: str | None = field(
        default=None,
        metadata={
            "help": "File with the system prompt; by default that beside the model, or else a built one."
        },
    )
    val_count: int = field(default=48, metadata={"help": "Samples of the validation set."})
    val_every: int = field(default=20, metadata={"help": "Steps between validations."})
    threads: int = field(default=2, metadata={"help": "CPU threads."})


def train(world: EnvArguments, training: GRPOConfig, model_options: ModelConfig) -> ValidationResult:
    """Trains a model; returns its last validation.

    Raises:
        AgentError: If the form of the reward is unknown, or the folder holds another run.
    """
    if world.form not in ("product", "gated"):
        raise AgentError(f"expected --form product or gated, found {world.form!r}.")
    set_threads(world.threads)
    out = Path(str(training.output_dir))
    name = str(model_options.model_name_or_path)
    toolbox = Toolbox.load(world.toolbox, training.device)
    system = instructions(world, name, toolbox)
    if training.process_index == 0:
        claim_run_dir(out, settings(world, training, model_options, system))
    processor: Any = AutoProcessor.from_pretrained(name, padding_side="left")
    model: Any = AutoModelForImageTextToText.from_pretrained(name, dtype=model_options.dtype or "float32")
    # Checkpoints in the hub's format are silently not read when a run goes on (transformers 5.23).
    model.save_pretrained = partial(model.save_pretrained, save_original_format=False)
    source = training_source(Path(world.images), world.canvas, None, world.clean)
    rewards = AnswerScorer(
        source.make,
        PlanScorer(toolbox, world.reward),
        make_grammar(toolbox, world.max_tools),
        make_judge(world, toolbox),
        cast(Any, world.form),
        world.tool_cost,
    )
    training.reward_weights = [0.0, 0.0, 0.0, 0.0, 1.0]
    training.remove_unused_columns = False
    validation_args = world.val_count, world.canvas, world.max_tools, world.tool_cost
    validation = Validation(Path(world.val), toolbox, world.reward, *validation_args)
    agent = partial(wrap_model, toolbox, processor, system, world, training)
    watch = Watch(validation, agent, out, world.val_every)
    total = logging_total_reward(rewards, training.num_generations or 8)
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=cast(Any, [*rewards.reward_functions()[:-1], total]),
        args=training,
        train_dataset=photographs(source, system, world.photographs, training.seed),
        processing_class=processor,
        peft_config=get_peft_config(model_options),
        callbacks=[watch],
    )
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(out)) if out.is_dir() else None)
    trainer.save_model(str(out / "model"))
    if trainer.accelerator.is_main_process:
        processor.save_pretrained(out / "model")
        save_card(system, toolbox, out / "model")
    return watch.last or validation(watch.agent(trainer.accelerator.unwrap_model(trainer.model)))


def settings(world: EnvArguments, training: GRPOConfig, model: ModelConfig, system: str) -> dict[str, Any]:
    """Returns what decides the result, without the places where things lie."""
    places = ("val", "instructions", "val_count", "val_every", "threads")
    kept = run_settings(world, exclude=places, images=folder_name(Path(world.images)))
    learning = {name: getattr(training, name) for name in _TRAINING_OPTIONS}
    start = {
        "model": Path(str(model.model_name_or_path)).name,
        "lora": model.lora_r if model.use_peft else None,
        "system": system,
        "toolbox": Path(world.toolbox).name,
    }
    return kept | learning | start


def instructions(world: EnvArguments, model: str, toolbox: Toolbox) -> str:
    """Returns what the model is told: from a file, from beside it, or built from the toolbox.

    Raises:
        ToolboxMismatchError: If the model was trained with other tools.
    """
    if world.instructions is not None:
        return Path(world.instructions).read_text()
    told = load_card(model)
    if told is None:
        return build_system_prompt(toolbox, world.max_tools)
    told.check(toolbox)
    return told.system_prompt


def make_judge(world: EnvArguments, toolbox: Toolbox) -> Judge | None:
    """Returns who says R_c; None if nobody does."""
    if world.judge == "none":
        return None
    if world.judge == "rules":
        return RulesJudge(toolbox)
    if world.judge.startswith(("http://", "https://")):
        return EndpointJudge(Endpoint(world.judge, world.judge_model))
    return LocalJudge(world.judge, toolbox.device)


def photographs(source: Source, system: str, count: int, seed: int) -> Dataset:
    """Returns rows for TRL that are made when they are asked for: a function of the seed and the row."""

    def make(batch: Mapping[str, Sequence[int]]) -> dict[str, list[Any]]:
        samples = [
            sample
            for row in batch["row"]
            for sample in draw_samples(source, 1, make_rng(seed, SeedStage.VLM_GRPO, row))
        ]
        return {
            "prompt": [conversation(system) for _ in samples],
            "image": [to_pil(observe_sample(sample).image) for sample in samples],
            "spec": [sample.spec.to_json() for sample in samples],
        }

    return Dataset.from_dict({"row": list(range(count))}).with_transform(make)


def conversation(system: str) -> list[dict[str, str]]:
    """Returns the prompt; TRL puts the image before the question."""
    return [{"role": "system", "content": system}, {"role": "user", "content": USER_PROMPT}]


def logging_total_reward(rewards: AnswerScorer, group: int) -> Callable[..., list[float]]:
    """Returns the reward function ``total``, which also tells TRL's log how the batch went."""

    def total(
        completions: Sequence[Any], spec: Sequence[Mapping[str, Any]], log_metric: Any = None, **others: Any
    ) -> list[float]:
        specs = [SampleSpec.from_json(one) for one in spec]
        earned = rewards.score([completion_text(completion) for completion in completions], specs)
        if log_metric is not None:
            for name, value in diagnostics(earned, group).items():
                log_metric(name, value)
        return [one.total for one in earned]

    return total


def diagnostics(earned: Sequence[AnswerScore], group: int) -> dict[str, float]:
    """Returns what curves show of a batch of answers, group by group."""
    said = [one.decision for one in earned]
    exact = [one.decision.error is None and one.decision.degradations == one.labels for one in earned]
    groups = [earned[first : first + group] for first in range(0, len(earned), group)]
    used = Counter(name for decision in said for name in decision.plan)
    found = {
        "exact_degradations": exact,
        "tools": [len(decision.plan) for decision in said],
        "reasoning_words": [len((decision.reasoning or "").split()) for decision in said],
        "distinct_plans": [len({one.decision.plan for one in some}) for some in groups],
        "equal_rewards": [len({one.total for one in some}) == 1 for some in groups],
    }
    return {
        **{f"answers/{name}": float(np.mean(values)) for name, values in found.items()},
        **{f"tools/{name}": count / len(said) for name, count in used.items()},
    }


def wrap_model(
    toolbox: Toolbox, processor: Any, system: str, world: EnvArguments, training: GRPOConfig, model: Any
) -> VLMAgent:
    """Returns the model in training as an agent."""
    longest = training.max_completion_length or 512
    return VLMAgent(toolbox, model, processor, system, world.max_tools, longest)


class Watch(TrainerCallback):
    """Lets the model plan for the validation set now and then.

    Args:
        validation: The photographs.
        agent: Makes an agent of the model.
        out: Folder of the curves.
        every: Steps in between.
    """

    def __init__(
        self, validation: Validation, agent: Callable[[Any], VLMAgent], out: Path, every: int
    ) -> None:
        self.validation, self.agent, self.every = validation, agent, every
        self.out, self.last = out, cast(ValidationResult | None, None)

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        if state.global_step == 0:
            self._watch(state, others["model"])

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        if state.global_step % self.every == 0 or state.global_step == state.max_steps:
            self._watch(state, others["model"])

    def _watch(self, state: Any, model: Any) -> None:
        """By every process, as weights that are sharded are gathered by all of them; one writes."""
        training, agent = model.training, self.agent(model.eval())
        self.last = self.validation(agent)
        model.train(training)
        if not state.is_world_process_zero:
            return
        with SummaryWriter(str(self.out / "val")) as writer:
            log_validation(writer, self.last, state.global_step)
            answers = "\n\n".join(
                f"    {text}" for text in agent.completions[:6]
            )  # indented: tags are no HTML
            writer.add_text("val/answers", answers, state.global_step)
        print(f"step {state.global_step}: {format_validation(self.last)}", flush=True)


def main() -> None:
    """Reads the options and trains."""
    parser = TrlParser(cast(Any, (EnvArguments, GRPOConfig, ModelConfig)))
    world, training, model_options = cast(Any, parser.parse_args_and_config())
    train(world, training, model_options)


if __name__ == "__main__":
    main()
