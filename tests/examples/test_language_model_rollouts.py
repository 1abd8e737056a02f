"""Whole runs of the environments for language models: an evaluation by verifiers, GRPO over OpenEnv."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from opera_agents.vlm.agent import SHIPPED, make_vlm
from opera_agents.vlm.saved import load_card
from opera_env.answer import TurnGrammar
from opera_env.data import Source
from opera_env.envs.observation import Episode, observe
from opera_env.reward import f1_score
from opera_env.scoring import PlanScorer
from opera_env.serving.client import ScoringClient
from opera_env.tools import Toolbox
from opera_env.types import Sample
from tests.agents.vlm.calling import PROMPT, calling_processor, warm_caller
from tests.served import free_port, wait_for

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

Serve = Callable[[Toolbox], AbstractContextManager[str]]


@contextmanager
def running(
    command: list[str], log: Path, environment: Mapping[str, str], folder: Path | None = None
) -> Iterator[str]:
    """Runs a server of Python with a free port; yields its address when it is healthy."""
    port = free_port()
    command = [sys.executable, *command, "--host", "127.0.0.1", "--port", str(port)]
    with log.open("w") as file:
        server = subprocess.Popen(command, env={**environment}, stdout=file, stderr=file, cwd=folder)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.slow
def test_verifiers_evaluates_the_shipped_model(
    serve_scores: Serve, source: Source, child_environment: dict[str, str], tmp_path: Path
) -> None:
    pytest.importorskip("verifiers.v1", reason="verifiers is not installed: pip install verifiers")
    pytest.importorskip("fastapi", reason="pip install transformers[serving]")
    if shutil.which("uv") is None:
        pytest.skip("verifiers prepares the program that plays by uv: pip install uv")
    card = load_card(SHIPPED)
    assert card is not None
    (tmp_path / "prompt.txt").write_text(card.system_prompt)
    path = os.pathsep.join([str(EXAMPLES / "verifiers_opera"), child_environment.get("PYTHONPATH", "")])
    environment = child_environment | {"PYTHONPATH": path}
    serve = ["-m", "opera_agents.vlm.transformers_cli", "serve", str(SHIPPED), "--device", "cpu"]
    metrics: dict[str, list[Any]] = {}
    with (
        serve_scores(Toolbox.load("lite")) as scores,
        running([*serve, "--dtype", "float32"], tmp_path / "log", child_environment) as model,
    ):
        for turns in ("false", "true"):  # a one-shot answer ends an episode of turns as well
            command = "from verifiers.v1.cli.eval.main import main; main()", "verifiers_opera"
            options = {
                "--env.taskset.server": scores,
                "--env.taskset.turns": turns,
                "--env.taskset.num-tasks": "2",
                "--env.taskset.system-prompt-file": str(tmp_path / "prompt.txt"),
                "--env.player.harness.id": "null",
                "--env.player.runtime.type": "subprocess",
                "--client.base-url": f"{model}/v1",
                "--client.api-key-var": "NO_KEY",
                "-m": str(SHIPPED),
                "-o": str(tmp_path / turns),
            }
            flat = [text for option in options.items() for text in option]
            subprocess.run(
                [sys.executable, "-c", *command, *flat, "--no-rich", "--no-push"],
                env=environment,
                cwd=tmp_path,
                check=True,
                capture_output=True,
                timeout=280,
            )
            (file,) = (tmp_path / turns).glob("*/traces.jsonl")
            episodes = [json.loads(line) for line in file.read_text().splitlines()]
            traces = [trace for each in episodes for trace in each["traces"]]
            traces.sort(key=lambda trace: trace["task"]["data"]["seed"])
            assert [trace["errors"] for trace in traces] == [[], []]
            metrics[turns] = [trace["metrics"] | trace["rewards"]["total"] for trace in traces]
        assert metrics["false"] == metrics["true"]
        drawn = [source.make(source.draw(np.random.default_rng(seed))) for seed in range(2)]
        own = make_vlm(Toolbox.load("lite")).act([observe(Episode(sample), 6) for sample in drawn])
        scored = ScoringClient(scores).score([0, 1], [decision.plan for decision in own])
    for values, sample, decision, expected in zip(metrics["false"], drawn, own, scored, strict=True):
        assert decision.degradations is not None and sample.degradations is not None
        r_d = f1_score(decision.degradations, sample.degradations)
        assert (values["r_f"], values["tools_run"], values["r_d"]) == (1.0, len(decision.plan), r_d)
        assert values["r_q"] == pytest.approx(expected.outcome.r_q, abs=1e-4)
        assert values["score"] == pytest.approx(values["r_q"] * r_d, abs=1e-4)


@pytest.mark.slow
def test_grpo_trains_on_episodes_of_openenv(
    server: str,
    source: Source,
    samples: list[Sample],
    toolbox: Toolbox,
    child_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    pytest.importorskip("openenv.core", reason="OpenEnv is not installed: pip install openenv")
    pytest.importorskip("trl", reason="TRL is not installed: pip install 'opera-env[agents]'")
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    monkeypatch.syspath_prepend(EXAMPLES)
    from openenv_opera.trl_environment import environment_factory

    processor = calling_processor(toolbox)
    grammar = TurnGrammar(toolbox.names, source.degradations, 6)
    model = warm_caller(processor, PlanScorer(toolbox, "classic"), grammar, samples)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    prompt = [{"role": "system", "content": PROMPT}, {"role": "user", "content": ""}]
    application = ["-m", "uvicorn", "server.app:app"]
    environment = child_environment | {"OPERA_SERVER": server}
    with running(application, tmp_path / "log", environment, EXAMPLES / "openenv_opera") as address:
        trainer = GRPOTrainer(
            model=model,
            args=GRPOConfig(
                output_dir=str(tmp_path),
                max_steps=2,
                learning_rate=1e-3,
                per_device_train_batch_size=8,
                num_generations=4,
                temperature=1.2,
                max_completion_length=300,
                max_tool_calling_iterations=6,
                remove_unused_columns=False,
                bf16=False,
                use_cpu=True,
                gradient_checkpointing=False,
                report_to="none",
                save_strategy="no",
                logging_steps=1,
            ),
            train_dataset=Dataset.from_list([{"prompt": prompt, "seed": seed} for seed in range(4)]),
            processing_class=processor,
            environment_factory=environment_factory(address),
        )
        trainer.train()
    logs = [log for log in trainer.state.log_history if "reward" in log]
    assert len(logs) == 2
    assert all(log["tools/call_frequency"] > 0 for log in logs)
    assert max(log["reward"] for log in logs) > 0
    assert max(log["reward_std"] for log in logs) > 0.1, "episodes of one photograph differ"
    assert any(not torch.equal(value, before[name]) for name, value in model.state_dict().items())
