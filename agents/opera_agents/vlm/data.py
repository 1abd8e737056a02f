"""The data set of GRPO training: prompts with images, made when they are needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset

from opera_agents.common.batches import draw_samples
from opera_agents.common.seeds import SeedStage, make_rng
from opera_agents.vlm.prompt import USER_PROMPT, sample_image
from opera_env.data import Source


def make_dataset(source: Source, system_prompt: str, num_samples: int, seed: int) -> Dataset:
    """Returns a data set for TRL; each row is a function of the seed and of its index.

    Args:
        source: The training photographs.
        system_prompt: The system prompt.
        num_samples: Number of rows.
        seed: Seed of the rows.

    Returns:
        Rows with ``prompt`` (messages), ``image`` (PIL) and ``spec`` (the sample's specification as JSON
        types).
    """

    def make_rows(batch: Mapping[str, Sequence[int]]) -> dict[str, list[Any]]:
        samples = [
            sample
            for index in batch["row"]
            for sample in draw_samples(source, 1, make_rng(seed, SeedStage.VLM_GRPO, index))
        ]
        return {
            "prompt": [prompt_messages(system_prompt) for _ in samples],
            "image": [sample_image(sample) for sample in samples],
            "spec": [sample.spec.to_json() for sample in samples],
        }

    return Dataset.from_dict({"row": list(range(num_samples))}).with_transform(make_rows)


def prompt_messages(system_prompt: str) -> list[dict[str, str]]:
    """Returns the messages of a prompt; TRL inserts the image before the user's text."""
    return [{"role": "system", "content": system_prompt}, {"role": "user", "content": USER_PROMPT}]
