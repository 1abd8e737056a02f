"""The same reward for verl, which trains on many machines: its reward function, and its data.

Example:
    python -m opera_agents.vlm.verl --images bsds500/train --out train.parquet --n 16000
    python -m verl.trainer.main_ppo algorithm.adv_estimator=grpo data.train_files=train.parquet ... \
        custom_reward_function.path=$(python -c "import opera_agents.vlm.verl as v; print(v.__file__)") \
        custom_reward_function.name=compute_score

Source: the paper trains with verl; its rewards are those of section 4.2.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from datasets import Dataset

from opera_agents.vlm.judge import RulesJudge
from opera_agents.vlm.prompt import USER_PROMPT, make_grammar, system_prompt
from opera_agents.vlm.reward import PARTS, AnswerScorer
from opera_env.data import clean_folder
from opera_env.data.images import to_pil
from opera_env.envs.observation import Episode, observe
from opera_env.files import atomic_write
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from opera_env.types import Sample, SampleSpec

SOURCE = "opera-env"
"""What verl calls the data source."""


@dataclass(frozen=True)
class World:
    """What an answer is judged in; travels with every row.

    Attributes:
        images: Folder of clean photographs, on every machine.
        toolbox: A shipped toolbox, or a folder.
        reward: What counts as quality.
        canvas: Side of the crops.
        max_tools: Longest plan.
        judged: Whether R_c counts, by rules.
    """

    images: str
    toolbox: str = "lite"
    reward: str = "lite"
    canvas: int = 128
    max_tools: int = 6
    judged: bool = True


@dataclass(frozen=True)
class ParquetConfig:
    """Writes rows for verl: prompts, images, and what is needed to judge answers."""

    images: Path
    """Folder of clean photographs; it must have this path on every machine that judges."""
    out: Path
    """Parquet file to write."""
    n: int = 16_000
    """Rows."""
    toolbox: str = "lite"
    """A shipped toolbox, or a folder written by Toolbox.save."""
    reward: str = "lite"
    """What counts as quality."""
    canvas: int = 128
    """Side of the crops."""
    max_tools: int = 6
    """Longest plan."""
    judged: bool = True
    """Count the consistency of reasoning and plan, by rules."""
    system_prompt: Path | None = None
    """Instructions of one's own."""
    seed: int = 0


def compute_score(
    data_source: str, solution_str: str, ground_truth: Any, extra_info: Mapping[str, Any] | None = None
) -> dict[str, float]:
    """Judges one answer, as verl calls it.

    Args:
        data_source: :data:`SOURCE`.
        solution_str: The answer.
        ground_truth: The degradations; the specification says them too, and is what counts.
        extra_info: ``spec`` and ``world``, both JSON, as :func:`rows` writes them.

    Returns:
        ``score``, which verl learns from, and its parts.

    Raises:
        KeyError: If ``extra_info`` lacks one of the two.
    """
    info = extra_info or {}
    spec = SampleSpec.from_json(json.loads(info["spec"]))
    (earned,) = _rewards(info["world"]).earned([solution_str], [spec])
    return {"score": earned.total, **{part: getattr(earned, part) for part in PARTS[:-1]}}


@lru_cache(maxsize=4)
def _rewards(world: str) -> AnswerScorer:
    """Makes a world once in each process."""
    given = World(**json.loads(world))
    toolbox = Toolbox.load(given.toolbox)
    return AnswerScorer(
        clean_folder(Path(given.images), given.canvas).make,
        PlanScorer(toolbox, given.reward),
        make_grammar(toolbox, given.max_tools),
        RulesJudge(toolbox) if given.judged else None,
    )


def rows(config: ParquetConfig) -> Iterator[dict[str, Any]]:
    """Yields verl's rows: a function of the seed."""
    toolbox = Toolbox.load(config.toolbox)
    system = system_prompt(toolbox, config.max_tools)
    if config.system_prompt is not None:
        system = config.system_prompt.read_text()
    images = str(config.images.resolve())
    world = World(images, config.toolbox, config.reward, config.canvas, config.max_tools, config.judged)
    source, rng = clean_folder(config.images, config.canvas), np.random.default_rng(config.seed)
    for index in range(config.n):
        sample = source.make(source.draw(rng))
        yield {
            "data_source": SOURCE,
            "prompt": [
                {"role": "system", "content": system},
                {"role": "user", "content": f"<image>{USER_PROMPT}"},
            ],
            "images": [{"bytes": _png_bytes(sample)}],
            "ability": "image restoration",
            "reward_model": {"style": "rule", "ground_truth": sorted(sample.degradations or ())},
            "extra_info": {
                "index": index,
                "spec": json.dumps(sample.spec.to_json()),
                "world": json.dumps(asdict(world), sort_keys=True),
            },
        }


def write(config: ParquetConfig) -> None:
    """Writes the file, whole or not at all."""
    table = Dataset.from_list(list(rows(config)))
    with atomic_write(config.out) as part:
        table.to_parquet(str(part))
    print(f"{len(table)} rows: {config.out}")


def _png_bytes(sample: Sample) -> bytes:
    buffer = io.BytesIO()
    to_pil(observe(Episode(sample), 0).image).save(buffer, "PNG")
    return buffer.getvalue()


if __name__ == "__main__":
    write(tyro.cli(ParquetConfig))
