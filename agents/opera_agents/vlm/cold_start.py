"""Shows a vision-language model how to answer, before it is rewarded: the cold start.

Example:
    python -m opera_agents.vlm.cold_start --images bsds500/train --val bsds500/val --out runs/vlm-cold
    python -m opera_agents.vlm.cold_start --images ... --val ... --answers format --steps 150

Without ``--model`` a tiny model is built, offline. Interrupt it at any time: the same command goes on from
the last checkpoint and ends where it would have ended. ``OUT/model`` is what GRPO starts from.

Source: the paper starts from a model that knows image quality and can follow instructions, so it needs none
    of this. A model that starts from nothing never writes an answer that could be rewarded.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from numpy.random import Generator
from rich.progress import track
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from transformers import AutoModelForImageTextToText, AutoProcessor

from opera_agents.common.batches import draw_samples, observe_sample, prefetch
from opera_agents.common.checkpoints import load_checkpoint, save_checkpoint
from opera_agents.common.photographs import training_source
from opera_agents.common.runs import claim_run_dir, folder_name, run_settings, set_threads
from opera_agents.common.seeds import SeedStage, make_rng
from opera_agents.common.validation import Validation, ValidationResult, format_validation, log_validation
from opera_agents.vlm.agent import VLMAgent
from opera_agents.vlm.answers import labelled_answer, random_answer
from opera_agents.vlm.prompt import build_messages, make_grammar
from opera_agents.vlm.saved import save_card
from opera_agents.vlm.tiny import tiny_model, tiny_processor
from opera_env.data.images import to_pil
from opera_env.files import atomic_write
from opera_env.schedules import set_learning_rate, warmup_cosine
from opera_env.tools import Toolbox
from opera_env.types import Sample

TINY_SYSTEM_PROMPT = "Mend this photograph."
"""What a tiny model is told: the tools are in its vocabulary, and long instructions would cost it most of
its time. Models that can read are given the whole prompt."""


@dataclass(frozen=True)
class VLMWarmStartConfig:
    """How a model is shown what answers look like."""

    images: Path
    """Folder of clean photographs to train on."""
    val: Path
    """Folder of clean photographs to watch it on."""
    out: Path = Path("runs/vlm-cold")
    """Everything is written here; the model to OUT/model."""
    model: Path | None = None
    """Model to start from: a folder with its processor; a tiny one is built if there is none."""
    answers: Literal["labelled", "format"] = "labelled"
    """Answers that are right about the degradations, or answers about other photographs, which teach the
    format alone."""
    system_prompt: Path | None = None
    """Instructions of one's own; a tiny model is told very little by default."""
    steps: int = 600
    """Steps."""
    batch: int = 32
    """Photographs per step."""
    lr: float = 2e-3
    """Peak learning rate."""
    toolbox: str = "lite"
    """A shipped toolbox, or a folder written by Toolbox.save."""
    max_tools: int = 6
    """Longest plan."""
    canvas: int = 128
    """Side of the crops."""
    clean: float = 1.5
    """Weight of clean photographs, beside 1, 3 and 5 of those with one, two and three degradations."""
    reward: str = "lite"
    """What validation counts as quality."""
    val_count: int = 48
    """Samples of the validation set."""
    save_every: int = 100
    """Steps between checkpoints."""
    seed: int = 0
    threads: int = 2
    """CPU threads."""
    workers: int = 0
    """Processes that make photographs for a GPU that would wait for them; 0 for a thread."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"

    def settings(self) -> dict[str, Any]:
        """Returns what decides the result, without the places where things lie."""
        places = ("images", "val", "out", "model", "system_prompt")
        running = ("threads", "workers", "device", "val_count")
        return run_settings(
            self,
            exclude=places + running,
            images=folder_name(self.images),
            model=None if self.model is None else self.model.name,
            toolbox=Path(self.toolbox).name,
            system=self.system,
        )

    @property
    def system(self) -> str:
        """The instructions."""
        return TINY_SYSTEM_PROMPT if self.system_prompt is None else self.system_prompt.read_text()


def train(config: VLMWarmStartConfig) -> ValidationResult:
    """Shows a model answers; returns its validation.

    Raises:
        AgentError: If the folder holds another run.
    """
    claim_run_dir(config.out, config.settings())
    set_threads(config.threads)
    torch.manual_seed(config.seed)
    toolbox = Toolbox.load(config.toolbox, config.device)
    source = training_source(config.images, config.canvas, None, config.clean)
    processor, model = load_or_build_model(config, toolbox)
    model = model.to(config.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), config.lr, betas=(0.9, 0.99), weight_decay=0.01)
    checkpoint, first = config.out / "checkpoint.pt", 0
    if (state := load_checkpoint(checkpoint, config.device)) is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
        print(f"resuming from step {first} of {config.steps}")

    writer = SummaryWriter(str(config.out), purge_step=first + 1)
    steps = range(first, config.steps)

    def conversations(step: int) -> Any:
        stage = SeedStage.VLM_WARM_START
        samples = draw_samples(source, config.batch, make_rng(config.seed, stage, step))
        rng = make_rng(config.seed, stage, step, stream=1)
        return batch_of(processor, config.system, samples, answers(config, toolbox, samples, rng))

    batches = prefetch(conversations, steps, config.workers)
    for step, inputs in zip(track(steps, description="cold start"), batches, strict=True):
        factor = warmup_cosine(step, config.steps, warmup=50, final=0.1)
        set_learning_rate(optimizer, config.lr * factor)
        loss = model(**inputs.to(config.device)).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        done = step + 1
        writer.add_scalar("cold/loss", loss.item(), done)
        if done % config.save_every == 0 or done == config.steps:
            print(f"cold start {done}: loss {loss.item():.3f}", flush=True)
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": done}
            save_checkpoint(checkpoint, state)

    model.save_pretrained(config.out / "model")
    processor.save_pretrained(config.out / "model")
    save_card(config.system, toolbox, config.out / "model")
    agent = VLMAgent.from_pretrained(toolbox, config.out / "model", config.max_tools)
    validate = Validation(
        config.val, toolbox, config.reward, config.val_count, config.canvas, config.max_tools
    )
    watched = validate(agent)
    log_validation(writer, watched, config.steps)
    writer.close()
    with atomic_write(config.out / "result.json") as part:
        part.write_text(json.dumps({"val_reward": watched.reward, "val_f1": watched.f1}) + "\n")
    print(format_validation(watched))
    return watched


def load_or_build_model(config: VLMWarmStartConfig, toolbox: Toolbox) -> tuple[Any, Any]:
    """Returns a processor and a model: those of a folder, or tiny ones."""
    if config.model is not None:
        return (
            AutoProcessor.from_pretrained(config.model),
            AutoModelForImageTextToText.from_pretrained(config.model, dtype=torch.float32),
        )
    rng, grammar = np.random.default_rng(config.seed), make_grammar(toolbox, config.max_tools)
    texts = [grammar.format(random_answer(toolbox, rng, config.max_tools)) for _ in range(500)]
    processor = tiny_processor(toolbox, [config.system, *texts])
    return processor, tiny_model(processor, seed=config.seed)


def answers(
    config: VLMWarmStartConfig, toolbox: Toolbox, samples: Sequence[Sample], rng: Generator
) -> list[str]:
    """Draws an answer for each photograph, of the kind that is asked for."""
    grammar = make_grammar(toolbox, config.max_tools)
    if config.answers == "format":
        return [grammar.format(random_answer(toolbox, rng, config.max_tools)) for _ in samples]
    return [
        grammar.format(labelled_answer(toolbox, sample.degradations or frozenset(), rng, config.max_tools))
        for sample in samples
    ]


def batch_of(processor: Any, system: str, samples: Sequence[Sample], texts: Sequence[str]) -> Any:
    """Returns a batch of conversations whose labels are the answers alone.

    Args:
        processor: Of the model.
        system: Instructions.
        samples: Whose images are shown.
        texts: The answers.
    """
    prompt = processor.apply_chat_template(
        build_messages(system), add_generation_prompt=True, tokenize=False
    )
    end = processor.tokenizer.eos_token
    images = [[to_pil(observe_sample(sample).image)] for sample in samples]
    inputs = processor(
        text=[prompt + text + end for text in texts], images=images, return_tensors="pt", padding=True
    )
    lengths = [len(ids) for ids in processor.tokenizer([text + end for text in texts])["input_ids"]]
    labels: Tensor = inputs["input_ids"].clone()
    for row, length in enumerate(lengths):  # padded on the left: an answer is what stands last
        labels[row, : labels.shape[1] - length] = -100
    inputs["labels"] = labels
    return inputs


if __name__ == "__main__":
    train(tyro.cli(VLMWarmStartConfig))
