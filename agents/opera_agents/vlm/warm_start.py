"""The warm start of a vision-language model: supervised fine-tuning on answers, before GRPO.

Example:
    python -m opera_agents.vlm.warm_start --images bsds500/train --val bsds500/val --out runs/vlm-warm
    python -m opera_agents.vlm.warm_start --images ... --val ... --answer-kind format --steps 150
    python -m opera_agents.vlm.warm_start --images ... --val ... --planner runs/planner \
        --encoder runs/planner/planner.safetensors
    python -m opera_agents.vlm.warm_start --images ... --val ... --planner runs/planner \
        --encoder runs/planner/planner.safetensors --answer-kind turns --out runs/vlm-turns-warm

Without ``--model`` a tiny model is built, offline. With ``--encoder`` it sees with a trained image encoder,
and with ``--planner`` it learns to write the plans of a planner. With ``--answer-kind turns`` it learns to
call functions that apply a plan tool by tool, and observes the result of each. The run may be interrupted
at any time: the same command resumes from the last checkpoint and ends exactly as an uninterrupted run.
GRPO starts from ``OUT/model``.

Source: the paper needs no warm start, because its model already knows image quality and follows
    instructions. A model with random weights never writes an answer that is rewarded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from rich.progress import track
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from opera_agents.common.batches import draw_samples, observe_sample, prefetch
from opera_agents.common.checkpoints import load_checkpoint, not_a_checkpoint, save_checkpoint
from opera_agents.common.photographs import check_photographs, training_source
from opera_agents.common.runs import load_encoder, set_threads
from opera_agents.common.seeds import SeedStage, make_rng
from opera_agents.common.validation import Validation, ValidationResult, format_validation, log_validation
from opera_agents.planner.agent import make_planner
from opera_agents.vlm.agent import VLMAgent
from opera_agents.vlm.answers import labelled_answer, random_answer
from opera_agents.vlm.call_warm_start import call_texts, collate_calls, draw_conversations
from opera_agents.vlm.pretrained import load_processor, load_vision_language_model
from opera_agents.vlm.prompt import build_messages, make_grammar, sample_image
from opera_agents.vlm.saved import load_card, replace_model, save_card, save_processor
from opera_agents.vlm.stepwise import VLMFunctionAgent, check_reads_calls
from opera_agents.vlm.tiny import tiny_encoder_model, tiny_model, tiny_processor
from opera_agents.vlm.warm_start_config import VLMWarmStartConfig
from opera_env.cli.program import run_program
from opera_env.data import Source
from opera_env.degradations import DEGRADATIONS, load_degradations
from opera_env.encoder import ImageEncoder
from opera_env.execution import PrefixCache
from opera_env.files import atomic_write
from opera_env.runs import claim_run_dir, describe_progress
from opera_env.schedules import set_learning_rate, warmup_cosine
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Agent, Sample

CHECKPOINT = "checkpoint.pt"
"""File name of a run's checkpoint."""


def train(config: VLMWarmStartConfig) -> ValidationResult:
    """Fine-tunes a model and returns its validation.

    Raises:
        RunError: If another process trains in the folder, or the folder holds a run with other settings, of
            more steps, or with damaged files.
        AgentError: If the model, encoder or planner to start from cannot be loaded, or the model was
            trained for another kind of answers.
        ToolboxMismatchError: If the planner was trained for other tools.
    """
    # Set-up. Nothing is written before all that was named has been found.
    set_threads(config.threads)
    torch.manual_seed(config.seed)
    toolbox = Toolbox.load(config.toolbox, config.device, config.trust_code)
    custom_degradations = load_degradations(config.degradations)
    check_photographs(config.images, [config.canvas])
    source = training_source(
        config.images,
        config.canvas,
        None,
        config.clean_weight,
        degradations=custom_degradations,
        benchmark_fraction=config.benchmark_fraction,
    )
    settings = config.settings(toolbox)
    processor, model = load_or_build_model(config, toolbox, source.degradations)
    planner = load_planner(config, toolbox)
    validation = Validation(
        config.val,
        toolbox,
        config.reward,
        config.val_count,
        config.canvas,
        config.max_tools,
        scorer=PlanScorer(toolbox, config.reward, cache=PrefixCache() if config.turns else None),
        degradations=custom_degradations,
    )
    state = load_state(config)
    progress = describe_progress(config.out, 0 if state is None else state["step"], config.steps, "steps")
    with claim_run_dir(config.out, settings, mutable=("steps",)):
        if progress is not None:
            print(progress)
        run_steps(config, toolbox, source, processor, model.to(config.device).train(), planner, state)
        with replace_model(config.out / "model") as folder:
            model.save_pretrained(folder)
            save_processor(processor, folder)
            save_card(config.system_prompt, toolbox, folder, source.degradations, config.turns)
        return validate(config, toolbox, validation)


def load_state(config: VLMWarmStartConfig) -> dict[str, Any] | None:
    """Returns the checkpoint of a run; None if there is none.

    Raises:
        RunError: If it is damaged, or no checkpoint of this trainer.
    """
    path = config.out / CHECKPOINT
    state = load_checkpoint(path, config.device)
    if state is not None and set(state) != {"model", "optimizer", "step"}:
        raise not_a_checkpoint(path, f"found {', '.join(map(str, state))[:200]}")
    return state


def run_steps(
    config: VLMWarmStartConfig,
    toolbox: Toolbox,
    source: Source,
    processor: Any,
    model: Any,
    planner: Agent | None,
    state: Mapping[str, Any] | None,
) -> None:
    """Trains a model on answers, and writes checkpoints.

    Args:
        config: The settings.
        toolbox: The tools that answers name.
        source: The training photographs.
        processor: The model's processor.
        model: The model, in training mode.
        planner: The agent whose plans the answers have; None for plausible plans.
        state: The checkpoint to resume from; None starts with the first step.
    """
    optimizer = torch.optim.AdamW(model.parameters(), config.lr, betas=(0.9, 0.99), weight_decay=0.01)
    start_step = 0
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        start_step = state["step"]
    steps = range(start_step, config.steps)
    grammar = make_grammar(toolbox, config.max_tools, source.degradations)
    scorer = PlanScorer(toolbox, config.reward) if config.turns else None

    def make_batch(step: int) -> Any:
        stage = SeedStage.VLM_WARM_START
        samples = draw_samples(source, config.batch_size, make_rng(config.seed, stage, step))
        rng = make_rng(config.seed, stage, step, stream=1)
        if scorer is not None:
            prompt, prob = config.system_prompt, config.undo_prob
            return collate_calls(
                processor, draw_conversations(scorer, grammar, samples, prompt, rng, planner, prob)
            )
        answers = draw_answers(config, toolbox, samples, rng, source.degradations, planner)
        return collate(processor, config.system_prompt, samples, answers)

    batches = prefetch(make_batch, steps, config.workers)
    progress_bar = track(steps, description="warm start", disable=not steps)
    with SummaryWriter(str(config.out), purge_step=start_step + 1) as writer:
        for step, inputs in zip(progress_bar, batches, strict=True):
            factor = warmup_cosine(step, config.steps, warmup=50, final=0.1)
            set_learning_rate(optimizer, config.lr * factor)
            loss = model(**inputs.to(config.device)).loss
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            global_step = step + 1
            writer.add_scalar("warm_start/loss", loss.item(), global_step)
            if global_step % config.save_every == 0 or global_step == config.steps:
                print(f"warm start {global_step}: loss {loss.item():.3f}", flush=True)
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
                save_checkpoint(config.out / CHECKPOINT, {**state, "step": global_step})


def validate(config: VLMWarmStartConfig, toolbox: Toolbox, validation: Validation) -> ValidationResult:
    """Validates the model that was saved, and writes and prints the result."""
    agent_class = VLMFunctionAgent if config.turns else VLMAgent
    result = validation(agent_class.from_pretrained(toolbox, config.out / "model", config.max_tools))
    with SummaryWriter(str(config.out)) as writer:
        log_validation(writer, result, config.steps)
    with atomic_write(config.out / "result.json") as partial:
        partial.write_text(json.dumps({"val_reward": result.reward, "val_f1": result.f1}) + "\n")
    print(format_validation(result))
    return result


def load_or_build_model(
    config: VLMWarmStartConfig, toolbox: Toolbox, labels: Sequence[str] = DEGRADATIONS
) -> tuple[Any, Any]:
    """Returns a processor and a model: loaded from a folder, or tiny ones.

    Raises:
        AgentError: If the model cannot be loaded, or was trained for another kind of answers.
    """
    if config.model is not None:
        if (card := load_card(config.model)) is not None:
            card.check_turns(config.turns)
        processor = load_processor(config.model)
        if config.turns:
            check_reads_calls(processor)
        return processor, load_vision_language_model(config.model, dtype=torch.float32)
    rng, grammar = np.random.default_rng(config.seed), make_grammar(toolbox, config.max_tools, labels)
    if config.turns:
        texts = call_texts(toolbox, grammar, config.system_prompt, rng, 500)
    else:
        texts = [grammar.format(random_answer(toolbox, rng, config.max_tools, labels)) for _ in range(500)]
    processor = tiny_processor(
        toolbox,
        [config.system_prompt, *texts],
        labels,
        calls_functions=config.turns,
        for_encoder=config.encoder is not None,
    )
    if config.encoder is None:
        return processor, tiny_model(processor, seed=config.seed)
    encoder = ImageEncoder()
    load_encoder(encoder, config.encoder)
    return processor, tiny_encoder_model(processor, encoder, seed=config.seed)


def load_planner(config: VLMWarmStartConfig, toolbox: Toolbox) -> Agent | None:
    """Returns the agent whose plans the answers have; None without one."""
    if config.planner is None:
        return None
    planner = make_planner(toolbox, config.max_tools, path=config.planner)
    assert isinstance(planner, Agent)
    return planner


def draw_answers(
    config: VLMWarmStartConfig,
    toolbox: Toolbox,
    samples: Sequence[Sample],
    rng: Generator,
    labels: Sequence[str] = DEGRADATIONS,
    planner: Agent | None = None,
) -> list[str]:
    """Draws a target answer for each sample, of the kind that the settings name."""
    grammar = make_grammar(toolbox, config.max_tools, labels)
    if config.answer_kind == "format":
        answers = [random_answer(toolbox, rng, config.max_tools, labels) for _ in samples]
    else:
        plans = [None] * len(samples)
        if planner is not None:
            plans = [decision.plan for decision in planner.act([observe_sample(each) for each in samples])]
        answers = [
            labelled_answer(
                toolbox, sample.degradations or frozenset(), rng, config.max_tools, labels, plan
            )
            for sample, plan in zip(samples, plans, strict=True)
        ]
    return [grammar.format(answer) for answer in answers]


def collate(processor: Any, system_prompt: str, samples: Sequence[Sample], texts: Sequence[str]) -> Any:
    """Returns a batch of conversations whose labels are the tokens of the answers alone.

    Args:
        processor: The model's processor.
        system_prompt: The system prompt.
        samples: The samples whose images are shown.
        texts: The answers.
    """
    messages = build_messages(system_prompt)
    prompt = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    end = processor.tokenizer.eos_token
    images = [[sample_image(sample)] for sample in samples]
    inputs = processor(
        text=[prompt + text + end for text in texts], images=images, return_tensors="pt", padding=True
    )
    lengths = [len(ids) for ids in processor.tokenizer([text + end for text in texts])["input_ids"]]
    labels: Tensor = inputs["input_ids"].clone()
    for row, length in enumerate(lengths):  # Padding is on the left, so the answer is at the end.
        labels[row, : labels.shape[1] - length] = -100
    inputs["labels"] = labels
    return inputs


if __name__ == "__main__":
    run_program(VLMWarmStartConfig, train)
