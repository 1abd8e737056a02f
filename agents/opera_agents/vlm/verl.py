"""The reward function and the data of a training with verl, which distributes over many machines.

Example:
    python -m opera_agents.vlm.verl --images bsds500/train --out train.parquet --num-rows 16000
    python -m verl.trainer.main_ppo algorithm.adv_estimator=grpo data.train_files=train.parquet ... \
        reward.custom_reward_function.path=agents/opera_agents/vlm/verl.py \
        reward.custom_reward_function.name=compute_score

verl calls the function once for each answer, in several processes. With ``--server ADDRESS``, that of
``opera-env serve``, they send the plans there, where calls that come together are scored together. Rows for
episodes turn by turn (``--turns``) are played by :mod:`opera_agents.vlm.verl_turns`.

Source: the paper trains with verl; its rewards are those of section 4.2.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from datasets import Dataset

from opera_agents.common.batches import draw_samples
from opera_agents.vlm.judge import RulesJudge
from opera_agents.vlm.prompt import (
    USER_PROMPT,
    build_function_system_prompt,
    build_system_prompt,
    make_grammar,
    sample_image,
)
from opera_agents.vlm.remote_reward import RemoteAnswerScorer
from opera_agents.vlm.reward import REWARD_NAMES, AnswerScorer
from opera_env.cli.program import exit_code
from opera_env.command_line import parse_settings
from opera_env.data import clean_folder
from opera_env.degradations import load_degradations
from opera_env.errors import SettingError
from opera_env.files import atomic_write
from opera_env.runs import NonNegativeInt, PositiveInt, Range, check_settings
from opera_env.scoring import PlanScorer
from opera_env.serving.client import ScoringClient
from opera_env.tools import Toolbox
from opera_env.types import Sample, SampleSpec

DATA_SOURCE = "opera-env"
"""Name of the data source in verl's rows."""

ONE_SHOT, TURNS = "single_turn_agent", "opera_turns"
"""Names of verl's agent loop for one answer, and of ours, as ``presets/verl-turns.yaml`` registers it."""


@dataclass(frozen=True)
class RewardConfig:
    """Settings of the reward of an answer; every row carries them.

    Attributes:
        images: Folder of clean photographs, with the same path on every machine.
        toolbox: Name of a shipped toolbox, or a folder written by ``Toolbox.save``.
        reward: Name of the reward that computes R_q.
        canvas: Side of the square crops in pixels.
        max_tools: Maximum number of tools in a plan.
        judge_consistency: Whether rules compute R_c; otherwise it is left out.
        degradations: Custom degradations beside the built-in ones: module:attribute. Every machine that
            computes rewards must be able to import it.
        server: Address of a scoring server, which has the photographs and the tools; None scores in the
            process of the reward function.
    """

    images: str
    toolbox: str = "lite"
    reward: str = "lite"
    canvas: int = 128
    max_tools: int = 6
    judge_consistency: bool = True
    degradations: str | None = None
    server: str | None = None


@dataclass(frozen=True)
class ParquetConfig:
    """Writes rows for verl: prompts, images, and what the reward function needs."""

    images: Path
    """Folder of clean photographs; it must have this path on every machine that computes rewards."""
    out: Path
    """Parquet file to write."""
    num_rows: PositiveInt = 16_000
    """Number of rows."""
    toolbox: str = "lite"
    """Name of a shipped toolbox, or a folder written by Toolbox.save."""
    reward: str = "lite"
    """Reward that computes R_q: a preset, or module:attribute, a reward of your own."""
    canvas: PositiveInt = 128
    """Side of the square crops in pixels."""
    max_tools: Annotated[int, Range(1, 64)] = 6
    """Maximum number of tools in a plan."""
    judge_consistency: bool = True
    """Compute the consistency reward R_c by rules."""
    system_prompt_file: Path | None = None
    """File of the system prompt; by default one is built from the toolbox and the labels."""
    seed: NonNegativeInt = 0
    """Seed of the photographs, the crops and the degradations."""
    degradations: str | None = None
    """Custom degradations beside the built-in ones: module:attribute of one or a list. The recipes are then
    all plausible orders of up to three degradations, and answers name them."""
    server: str | None = None
    """Address of a scoring server, as opera-env serve prints it, that serves the same photographs, tools
    and reward. Machines that compute rewards then need neither the photographs nor the tools."""
    turns: bool = False
    """Write rows for episodes in which the model calls tools one by one and observes the results. They are
    played at the scoring server, which must be given."""

    def __post_init__(self) -> None:
        check_settings(self)
        if self.turns and self.server is None:
            raise SettingError("server", "", "the address of a scoring server, at which turns are played")


def compute_score(
    data_source: str, solution_str: str, ground_truth: Any, extra_info: Mapping[str, Any] | None = None
) -> dict[str, float]:
    """Scores one answer; this is verl's custom reward function.

    Args:
        data_source: :data:`DATA_SOURCE`.
        solution_str: The answer.
        ground_truth: The degradations. They are not used: the sample of the specification carries them.
        extra_info: ``spec`` and ``reward_config``, both JSON, as :func:`rows` writes them.

    Returns:
        ``score``, which verl maximises, and ``r_q``, ``r_d``, ``r_f`` and ``r_c``.

    Raises:
        KeyError: If ``extra_info`` lacks ``spec`` or ``reward_config``.
    """
    info = extra_info or {}
    spec = SampleSpec.from_json(json.loads(info["spec"]))
    (answer_score,) = _make_scorer(info["reward_config"]).score([solution_str], [spec])
    terms = {name: getattr(answer_score, name) for name in REWARD_NAMES[:-1]}
    return {"score": answer_score.total, **terms}


@lru_cache(maxsize=4)
def _make_scorer(reward_config: str) -> AnswerScorer:
    """Makes the scorer of a configuration once in each process."""
    config = RewardConfig(**json.loads(reward_config))
    if config.server is not None:
        client = ScoringClient(config.server)
        judge = RulesJudge(client.served["tools"]) if config.judge_consistency else None
        return RemoteAnswerScorer(client, judge)
    toolbox = Toolbox.load(config.toolbox)
    custom_degradations = load_degradations(config.degradations)
    source = clean_folder(config.images, config.canvas, degradations=custom_degradations)
    return AnswerScorer(
        source.make,
        PlanScorer(toolbox, config.reward),
        make_grammar(toolbox, config.max_tools, source.degradations),
        RulesJudge(toolbox) if config.judge_consistency else None,
    )


def rows(config: ParquetConfig) -> Iterator[dict[str, Any]]:
    """Yields verl's rows, which are a function of the settings."""
    toolbox = Toolbox.load(config.toolbox)
    custom_degradations = load_degradations(config.degradations)
    source = clean_folder(config.images, config.canvas, degradations=custom_degradations)
    if config.system_prompt_file is not None:
        system_prompt = config.system_prompt_file.read_text()
    elif config.turns:
        labels = source.degradations
        system_prompt = build_function_system_prompt(toolbox, config.max_tools, labels, "apply_tool")
    else:
        system_prompt = build_system_prompt(toolbox, config.max_tools, source.degradations)
    reward_config = RewardConfig(
        str(config.images.resolve()),
        config.toolbox,
        config.reward,
        config.canvas,
        config.max_tools,
        config.judge_consistency,
        config.degradations,
        config.server,
    )
    rng = np.random.default_rng(config.seed)
    for index in range(config.num_rows):
        (sample,) = draw_samples(source, 1, rng)
        yield {
            "data_source": DATA_SOURCE,
            "agent_name": TURNS if config.turns else ONE_SHOT,
            "prompt": [
                {"role": "system", "content": system_prompt},
                {"role": "user", "content": f"<image>{USER_PROMPT}"},
            ],
            "images": [{"bytes": _png_bytes(sample)}],
            "ability": "image restoration",
            "reward_model": {"style": "rule", "ground_truth": sorted(sample.degradations or ())},
            "extra_info": {
                "index": index,
                "spec": json.dumps(sample.spec.to_json()),
                "reward_config": json.dumps(asdict(reward_config), sort_keys=True),
            },
        }


def write_parquet(config: ParquetConfig) -> None:
    """Writes the rows into a Parquet file, atomically."""
    table = Dataset.from_list(list(rows(config)))
    with atomic_write(config.out) as partial:
        table.to_parquet(str(partial))
    print(f"{len(table)} rows: {config.out}")


def _png_bytes(sample: Sample) -> bytes:
    buffer = io.BytesIO()
    sample_image(sample).save(buffer, "PNG")
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(exit_code(lambda: write_parquet(parse_settings(ParquetConfig))))
