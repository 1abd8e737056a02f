"""verl's rows and reward function; verl itself is not needed."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from opera_agents.vlm.prompt import USER_PROMPT, build_function_system_prompt, make_grammar
from opera_agents.vlm.verl import DATA_SOURCE, ONE_SHOT, TURNS, ParquetConfig, compute_score, write_parquet
from opera_env.data import clean_folder
from opera_env.data.images import to_array
from opera_env.envs.observation import Episode, observe
from opera_env.errors import SettingError
from opera_env.scoring import PlanScorer
from opera_env.serving.app import make_app
from opera_env.serving.config import ServingConfig
from opera_env.serving.metrics import ServerMetrics
from opera_env.serving.service import ScoringService
from opera_env.tools import Toolbox
from opera_env.types import Decision, SampleSpec
from tests.served import serving_app


@pytest.fixture
def config(photos: Path, tmp_path: Path) -> ParquetConfig:
    return ParquetConfig(photos, tmp_path / "train.parquet", num_rows=3, reward="classic", canvas=64)


def test_rewards_of_rows_equal_the_scorers(config: ParquetConfig, photos: Path) -> None:
    write_parquet(config)
    rows = list(Dataset.from_parquet(str(config.out)))
    assert len(rows) == 3 and list(config.out.parent.iterdir()) == [config.out]
    toolbox = Toolbox.load("lite")
    for row in rows:
        assert (row["data_source"], row["agent_name"]) == (DATA_SOURCE, ONE_SHOT)
        assert row["prompt"][1]["content"].startswith("<image>")
        spec = SampleSpec.from_json(json.loads(row["extra_info"]["spec"]))
        sample = clean_folder(photos, 64).make(spec)
        shown = np.asarray(Image.open(io.BytesIO(row["images"][0]["bytes"])))
        assert np.array_equal(shown, to_array(observe(Episode(sample), 0).image))
        labels = frozenset(row["reward_model"]["ground_truth"])
        assert labels == sample.degradations
        text = make_grammar(toolbox).format(Decision((), labels, " ".join(sorted(labels)) or "Clean."))
        score = compute_score(DATA_SOURCE, text, row["reward_model"]["ground_truth"], row["extra_info"])
        r_q = PlanScorer(toolbox, "classic").score([sample], [()])[0].r_q
        assert score == pytest.approx({"score": r_q, "r_q": r_q, "r_d": 1, "r_f": 1, "r_c": 1})
        assert compute_score(DATA_SOURCE, "Hm.", None, row["extra_info"])["score"] == 0


def test_rows_with_own_degradations(config: ParquetConfig) -> None:
    write_parquet(replace(config, degradations="tests.degradations.own:OWN_DEGRADATIONS", num_rows=8))
    rows = list(Dataset.from_parquet(str(config.out)))
    assert "- salt_and_pepper\n" in rows[0]["prompt"][0]["content"]
    row = next(row for row in rows if "salt_and_pepper" in row["reward_model"]["ground_truth"])
    labels = row["reward_model"]["ground_truth"]
    text = f"<think>{labels}</think><degradation>{labels}</degradation><answer>[]</answer>"
    score = compute_score(DATA_SOURCE, text, labels, row["extra_info"])
    assert score["r_d"] == 1 and score["r_q"] > 0


def test_a_scoring_server_gives_the_same_rewards(config: ParquetConfig, photos: Path) -> None:
    toolbox = Toolbox.load("lite")
    service = ScoringService(PlanScorer(toolbox, "classic"), clean_folder(photos, 64), ServingConfig())
    with serving_app(make_app(service, ServerMetrics())) as address:
        write_parquet(replace(config, server=address))
        rows = list(Dataset.from_parquet(str(config.out)))
        labels = [row["reward_model"]["ground_truth"] for row in rows]
        answers = [
            f"<think>{' '.join(known)} unet.denoise</think><degradation>{known}</degradation>"
            "<answer>['unet.denoise']</answer>"
            for known in labels
        ]

        def score(answer: str, row: Any) -> dict[str, float]:
            return compute_score(DATA_SOURCE, answer, None, row["extra_info"])

        with ThreadPoolExecutor(3) as pool:  # as verl's workers call it
            remote = list(pool.map(score, answers, rows))
        assert score("Hm.", rows[0]) == {"score": 0, "r_q": 0, "r_d": 0, "r_f": 0, "r_c": 0}
    write_parquet(config)
    local = [score(*each) for each in zip(answers, Dataset.from_parquet(str(config.out)), strict=True)]
    assert remote == [pytest.approx(each, abs=1e-4) for each in local]
    assert all(each["r_c"] == each["r_f"] == 1 and each["score"] > 0 for each in remote)


def test_rows_for_turns_ask_for_calls_and_need_a_server(config: ParquetConfig) -> None:
    write_parquet(replace(config, turns=True, server="http://127.0.0.1:8200", num_rows=1))
    (row,) = Dataset.from_parquet(str(config.out))
    assert row["agent_name"] == TURNS
    system, user = row["prompt"]
    assert system["content"] == build_function_system_prompt(Toolbox.load("lite"), 6, function="apply_tool")
    assert user["content"] == f"<image>{USER_PROMPT}", "the conversation of the other trainers"
    with pytest.raises(SettingError, match="--server: expected the address of a scoring server"):
        replace(config, turns=True)


def test_verl_reads_our_keys() -> None:
    """The settings of the documentation are settings of the installed verl."""
    verl = pytest.importorskip("verl", reason="verl is not installed: pip install verl")
    hydra = pytest.importorskip("hydra")
    page = (Path(__file__).parents[3] / "docs" / "vlm.md").read_text()
    _, one_shot, turns = page.split("python -m verl.trainer.main_ppo")
    for text in (one_shot, turns):
        command = text.split("```")[0].replace("\\", " ")
        with hydra.initialize_config_dir(str(Path(verl.__file__).parent / "trainer" / "config")):
            config = hydra.compose("ppo_trainer", overrides=command.split())
        loops = config.actor_rollout_ref.rollout.agent.agent_loop_config_path
        function = config.reward.custom_reward_function
        if text is one_shot:
            assert function.name == "compute_score" and function.path.endswith("vlm/verl.py")
            assert loops is None
        else:
            assert loops.endswith("presets/verl-turns.yaml") and function.path is None


def test_missing_extra_info_raises(config: ParquetConfig) -> None:
    with pytest.raises(KeyError, match="spec"):
        compute_score(DATA_SOURCE, "Hm.", None, {})


def test_a_given_system_prompt_is_used(config: ParquetConfig, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("Be brief.")
    own_prompt_config = ParquetConfig(
        config.images, config.out, 1, canvas=64, system_prompt_file=tmp_path / "prompt.txt"
    )
    write_parquet(own_prompt_config)
    (row,) = Dataset.from_parquet(str(own_prompt_config.out))
    assert row["prompt"][0]["content"] == "Be brief."
