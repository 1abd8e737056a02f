"""The warm start of a vision-language model: supervised fine-tuning on answers, before GRPO.

Example:
    python -m opera_agents.vlm.warm_start --images bsds500/train --val bsds500/val --out runs/vlm-warm
    python -m opera_agents.vlm.warm_start --images ... --val ... --answer-kind format --steps 150

Without ``--model`` a tiny model is built, offline. The run may be interrupted at any time: the same command
resumes from the last checkpoint and ends exactly as an uninterrupted run. GRPO starts from ``OUT/model``.

Source: the paper needs no warm start, because its model already knows image quality and follows
    instructions. A model with random weights never writes an answer that is rewarded.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.random import Generator
from rich.progress import track
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from opera_agents.common.batches import draw_samples, prefetch
from opera_agents.common.checkpoints import load_checkpoint, save_checkpoint
from opera_agents.common.photographs import training_source
from opera_agents.common.runs import claim_run_dir, folder_name, run_settings, set_threads
from opera_agents.common.seeds import SeedStage, make_rng
from opera_agents.common.validation import Validation, ValidationResult, format_validation, log_validation
from opera_agents.vlm.agent import VLMAgent
from opera_agents.vlm.answers import labelled_answer, random_answer
from opera_agents.vlm.pretrained import load_processor, load_vision_language_model
from opera_agents.vlm.prompt import build_messages, make_grammar, sample_image
from opera_agents.vlm.saved import save_card
from opera_agents.vlm.tiny import tiny_model, tiny_processor
from opera_env.command_line import parse_settings
from opera_env.degradations import DEGRADATIONS, load_degradations
from opera_env.files import atomic_write
from opera_env.schedules import set_learning_rate, warmup_cosine
from opera_env.tools import Toolbox
from opera_env.types import Sample

TINY_SYSTEM_PROMPT = "Restore this photograph."
"""The system prompt of tiny models, which is short because a long one would take most of their time.

A trained model keeps the prompt of its training in its card; the shipped one has another. Larger models get
the whole system prompt.
"""


@dataclass(frozen=True)
class VLMWarmStartConfig:
    """Fine-tunes a vision-language model on answers, so that GRPO has answers to reward."""

    images: Path
    """Folder of clean photographs for training."""
    val: Path
    """Folder of clean photographs for validation."""
    out: Path = Path("runs/vlm-warm")
    """Folder of the run; the model is saved in OUT/model."""
    model: Path | None = None
    """Folder of a model and its processor to start from; by default a tiny model is built."""
    answer_kind: Literal["labelled", "format"] = "labelled"
    """labelled: answers name the true degradations. format: answers are independent of the photograph, so
    that they teach the format alone."""
    system_prompt_file: Path | None = None
    """File of the system prompt; by default a short one for tiny models."""
    steps: int = 600
    """Number of gradient steps."""
    batch_size: int = 32
    """Number of samples in a gradient step."""
    lr: float = 2e-3
    """Peak learning rate."""
    toolbox: str = "lite"
    """Name of a shipped toolbox, or a folder written by Toolbox.save."""
    max_tools: int = 6
    """Maximum number of tools in a plan."""
    canvas: int = 128
    """Side of the square crops in pixels."""
    clean_weight: float = 1.5
    """Sampling weight of clean photographs; those with one, two and three degradations have 1, 3 and 5."""
    degradations: str | None = None
    """Custom degradations beside the built-in ones: module:attribute of one or a list. The recipes are then
    all plausible orders of up to three degradations, and answers name them."""
    reward: str = "lite"
    """Reward of the validation: a preset, or module:attribute, a reward of your own."""
    val_count: int = 48
    """Number of validation samples."""
    save_every: int = 100
    """Steps between checkpoints."""
    seed: int = 0
    """Seed of all random numbers."""
    threads: int = 2
    """Number of CPU threads."""
    workers: int = 0
    """Number of processes that prepare batches, for a GPU that one thread cannot keep busy; 0 uses one
    thread."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Device of the model."""

    def settings(self) -> dict[str, Any]:
        """Returns the settings that determine the result, without paths of this machine."""
        return run_settings(
            self,
            exclude=("val", "out", "system_prompt_file", "threads", "workers", "device", "val_count"),
            images=folder_name(self.images),
            model=None if self.model is None else self.model.name,
            toolbox=Path(self.toolbox).name,
            system_prompt=self.system_prompt,
        )

    @property
    def system_prompt(self) -> str:
        """The system prompt."""
        return (
            TINY_SYSTEM_PROMPT if self.system_prompt_file is None else self.system_prompt_file.read_text()
        )


def train(config: VLMWarmStartConfig) -> ValidationResult:
    """Fine-tunes a model and returns its validation.

    Raises:
        RunError: If the folder holds a run with other settings.
    """
    claim_run_dir(config.out, config.settings())
    set_threads(config.threads)
    torch.manual_seed(config.seed)
    toolbox = Toolbox.load(config.toolbox, config.device)
    custom_degradations = load_degradations(config.degradations)
    source = training_source(
        config.images, config.canvas, None, config.clean_weight, degradations=custom_degradations
    )
    labels = source.degradations
    processor, model = load_or_build_model(config, toolbox, labels)
    model = model.to(config.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), config.lr, betas=(0.9, 0.99), weight_decay=0.01)
    checkpoint, start_step = config.out / "checkpoint.pt", 0
    if (state := load_checkpoint(checkpoint, config.device)) is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        start_step = state["step"]
        print(f"resuming from step {start_step} of {config.steps}")

    writer = SummaryWriter(str(config.out), purge_step=start_step + 1)
    steps = range(start_step, config.steps)

    def make_batch(step: int) -> Any:
        stage = SeedStage.VLM_WARM_START
        samples = draw_samples(source, config.batch_size, make_rng(config.seed, stage, step))
        rng = make_rng(config.seed, stage, step, stream=1)
        answers = draw_answers(config, toolbox, samples, rng, labels)
        return collate(processor, config.system_prompt, samples, answers)

    batches = prefetch(make_batch, steps, config.workers)
    for step, inputs in zip(track(steps, description="warm start"), batches, strict=True):
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
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": global_step}
            save_checkpoint(checkpoint, state)

    model.save_pretrained(config.out / "model")
    processor.save_pretrained(config.out / "model")
    save_card(config.system_prompt, toolbox, config.out / "model", labels)
    agent = VLMAgent.from_pretrained(toolbox, config.out / "model", config.max_tools)
    validation = Validation(
        config.val,
        toolbox,
        config.reward,
        config.val_count,
        config.canvas,
        config.max_tools,
        degradations=custom_degradations,
    )
    result = validation(agent)
    log_validation(writer, result, config.steps)
    writer.close()
    with atomic_write(config.out / "result.json") as partial:
        partial.write_text(json.dumps({"val_reward": result.reward, "val_f1": result.f1}) + "\n")
    print(format_validation(result))
    return result


def load_or_build_model(
    config: VLMWarmStartConfig, toolbox: Toolbox, labels: Sequence[str] = DEGRADATIONS
) -> tuple[Any, Any]:
    """Returns a processor and a model: loaded from a folder, or tiny ones."""
    if config.model is not None:
        return load_processor(config.model), load_vision_language_model(config.model, dtype=torch.float32)
    rng, grammar = np.random.default_rng(config.seed), make_grammar(toolbox, config.max_tools, labels)
    texts = [grammar.format(random_answer(toolbox, rng, config.max_tools, labels)) for _ in range(500)]
    processor = tiny_processor(toolbox, [config.system_prompt, *texts], labels)
    return processor, tiny_model(processor, seed=config.seed)


def draw_answers(
    config: VLMWarmStartConfig,
    toolbox: Toolbox,
    samples: Sequence[Sample],
    rng: Generator,
    labels: Sequence[str] = DEGRADATIONS,
) -> list[str]:
    """Draws a target answer for each sample, of the kind that the settings name."""
    grammar = make_grammar(toolbox, config.max_tools, labels)
    if config.answer_kind == "format":
        answers = [random_answer(toolbox, rng, config.max_tools, labels) for _ in samples]
    else:
        answers = [
            labelled_answer(toolbox, sample.degradations or frozenset(), rng, config.max_tools, labels)
            for sample in samples
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
    train(parse_settings(VLMWarmStartConfig))
