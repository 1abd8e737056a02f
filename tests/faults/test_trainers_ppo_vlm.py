"""PPO and vision-language models: trainers that are stopped, damaged and run twice, and hostile models.

Whatever happens, the exit code and one line say so, nothing is half written, and the same command then ends
with the same weights as an undisturbed run. No model runs code of its own.
"""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opera_agents.ppo import train as ppo
from opera_agents.ppo.config import PPOConfig
from opera_agents.vlm import grpo, warm_start
from opera_agents.vlm.agent import SHIPPED, VLMAgent
from opera_agents.vlm.answers import random_answer
from opera_agents.vlm.checkpoints import find_checkpoint
from opera_agents.vlm.command_line import parse_arguments
from opera_agents.vlm.prompt import make_grammar
from opera_agents.vlm.reward import AnswerScorer
from opera_agents.vlm.saved import save_card
from opera_agents.vlm.tiny import tiny_model, tiny_processor
from opera_agents.vlm.warm_start_config import VLMWarmStartConfig
from opera_env.tools import Toolbox
from tests.faults.conftest import Counts
from tests.faults.processes import OPERA_ENV, Ended, leftovers, random_moments, run
from tests.faults.trainers import Inputs, Trainer, make_inputs, results

SIGNALS = {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}
"""The exit code after each signal."""


@dataclass(frozen=True)
class GrpoConfig:
    """The settings of GRPO, which has the command line of TRL."""

    words: str
    """The words of the command line, between commas."""
    out: Path
    """Folder of the run."""


def train_grpo(config: GrpoConfig) -> None:
    words = [*config.words.split(","), "--output_dir", str(config.out)]
    grpo.train(*parse_arguments(words))


_SMALL = "--images {images} --val {images} --toolbox {toolbox} --reward classic --canvas 64 --threads 1"

TRAINERS = {
    "ppo": Trainer(
        PPOConfig,
        ppo.train,
        f"{_SMALL} --total-timesteps 48 --warm-start-steps 2 --warm-start-batch-size 2 --num-envs 3 "
        "--n-steps 4 --batch-size 6 --max-tools 2 --obs-size 32 --save-every 1 --val-every 2 --val-count 2 "
        "--device cpu",
    ),
    "warm start": Trainer(
        VLMWarmStartConfig,
        warm_start.train,
        f"{_SMALL} --steps 4 --batch-size 2 --max-tools 2 --val-count 1 --save-every 1 --device cpu",
    ),
    "grpo": Trainer(
        GrpoConfig,
        train_grpo,
        "--words="
        + f"{_SMALL} --model_name_or_path {{planner}}/../vlm --max_tools 2 --num_samples 16 --val_count 1 "
        "--val_every 4 --learning_rate 1e-2 --max_steps 4 --per_device_train_batch_size 4 "
        "--num_generations 2 --max_completion_length 6 --loss_type grpo --beta 0 --bf16 false "
        "--use_cpu true --logging_steps 1 --save_steps 1 --save_total_limit 2 --report_to none "
        "--disable_tqdm true".replace(" ", ","),
    ),
}
"""The trainers by name; a checkpoint after each of four steps or rollouts."""

ALL = pytest.mark.parametrize("name", TRAINERS)


@pytest.fixture(scope="module", autouse=True)
def short_answers_and_rewards() -> Iterator[None]:
    """Limits answers, and rewards errors by their length: untrained models earn nothing, and learn nothing.

    Forked processes inherit both.
    """
    original = AnswerScorer._score_one

    def score_one(self: AnswerScorer, decision: Any, *args: Any) -> Any:
        return replace(original(self, decision, *args), total=float(len(str(decision.error))))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AnswerScorer, "_score_one", score_one)
        patch.setattr(VLMAgent, "from_pretrained", partial(VLMAgent.from_pretrained, max_new_tokens=8))
        yield


@pytest.fixture(scope="module")
def inputs(photos: Path, small_toolbox: Path, tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder, toolbox = tmp_path_factory.mktemp("inputs"), Toolbox.load(small_toolbox)
    rng = np.random.default_rng(0)
    texts = [make_grammar(toolbox).format(random_answer(toolbox, rng)) for _ in range(50)]
    processor = tiny_processor(toolbox, texts)
    processor.save_pretrained(folder / "vlm")
    tiny_model(processor, hidden_size=32, num_layers=1).save_pretrained(folder / "vlm")
    save_card("Restore it.", toolbox, folder / "vlm")
    return make_inputs(photos, small_toolbox, folder)


@pytest.fixture(scope="module")
def whole(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``whole(name)`` is the folder of an undisturbed run of a trainer."""
    folders: dict[str, Path] = {}

    def run_whole(name: str) -> Path:
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp("whole")
            ended = TRAINERS[name].run(inputs, folders[name])
            assert ended.code == 0, ended.err
        return folders[name]

    return run_whole


def assert_last_line(ended: Ended, code: int, *texts: str) -> None:
    """Libraries may have printed warnings before the line."""
    assert ended.code == code, ended
    assert "Traceback" not in ended.err, ended.err
    for text in texts:
        assert text in ended.err.splitlines()[-1], ended.err


def assert_same_results(name: str, folder: Path, whole: Path) -> None:
    """Of GRPO, TRL's checkpoints have times and paths in them: the model is compared."""
    part = "run/model" if name == "grpo" else "run"
    found, expected = results(folder / part), results(whole / part)
    assert found.keys() == expected.keys()
    assert [file for file in expected if found[file] != expected[file]] == []
    assert leftovers(folder) == []


@ALL
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_run_that_is_stopped_at_random_moments_resumes_exactly(
    name: str, number: signal.Signals, inputs: Inputs, whole: Any, tmp_path: Path, counts: Counts
) -> None:
    trainer, expected = TRAINERS[name], whole(name)
    count = 2 if number == signal.SIGKILL else 1
    for moment in random_moments(seed=10 + list(SIGNALS).index(number), count=count, latest=1.5):
        process = trainer.start(inputs, tmp_path)
        was_running = process.send(number, moment)
        ended = process.wait()
        if not was_running or ended.code == 0:  # all was done, or the process was just ending
            assert (ended.code, "Exception ignored" in ended.err) == (0, False)
            was_running = False
        elif number == signal.SIGKILL:
            assert ended.code == -9
        else:
            word = "interrupted" if number == signal.SIGINT else "terminated"
            assert_last_line(ended, SIGNALS[number], word)
            explained = f"{word}: the same command resumes {tmp_path / 'run'}"
            assert ended.err.splitlines()[-1] in (word, explained)
            assert [path for path in leftovers(tmp_path) if path.is_file()] == []
        counts(f"ppo, vlm: runs stopped by {number.name}", int(was_running))
    ended = trainer.run(inputs, tmp_path)
    assert ended.code == 0, ended.err
    assert_same_results(name, tmp_path, expected)


@ALL
def test_two_processes_do_not_train_in_one_folder(
    name: str, inputs: Inputs, whole: Any, tmp_path: Path, counts: Counts
) -> None:
    trainer, expected = TRAINERS[name], whole(name)
    first = trainer.start(inputs, tmp_path)
    first.wait_for(tmp_path / "run" / ".lock")
    second = trainer.run(inputs, tmp_path)
    assert_last_line(second, 1, "error: another process is", str(tmp_path), "wait until it ends")
    assert first.wait().code == 0
    assert_same_results(name, tmp_path, expected)
    counts("ppo, vlm: second processes refused")


@ALL
def test_a_full_disk_is_one_line_and_the_run_resumes(
    name: str, inputs: Inputs, whole: Any, tmp_path: Path, counts: Counts
) -> None:
    """The size of files is limited instead: small files can be written, others end before their end."""
    trainer, expected = TRAINERS[name], whole(name)
    sizes = [path.stat().st_size for path in (expected / "run").rglob("*") if path.is_file()]
    for size in (max(sizes) // 2, max(sizes) - 1):
        ended = trainer.run(inputs, tmp_path, max_file_bytes=size)
        assert_last_line(ended, 1, "error: ", str(tmp_path))
        assert "File too large" in ended.err or "is the disk full?" in ended.err
        counts("ppo, vlm: full disks")
    assert trainer.run(inputs, tmp_path).code == 0
    assert_same_results(name, tmp_path, expected)


def damage(path: Path, kind: str) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if kind == "cut" else b"[1, 2]")


@ALL
@pytest.mark.parametrize("kind", ["cut", "of another type"])
def test_damaged_files_are_replaced_or_named(
    name: str, kind: str, inputs: Inputs, whole: Any, tmp_path: Path, counts: Counts
) -> None:
    """The settings and the last checkpoint; the checkpoint before it is used, or the file is named."""
    trainer, expected = TRAINERS[name], whole(name)
    shutil.copytree(expected, tmp_path, dirs_exist_ok=True)
    names = ["config.json", "checkpoint.pt"]
    if name == "grpo":
        checkpoint = find_checkpoint(tmp_path / "run")
        assert checkpoint is not None and checkpoint.name == "checkpoint-4"
        names[1:] = [f"checkpoint-4/{file}" for file in ("model.safetensors", "optimizer.pt")]
    for file in names:
        path, original = tmp_path / "run" / file, expected / "run" / file
        damage(path, kind)
        ended = trainer.run(inputs, tmp_path)
        if ended.code:
            assert_last_line(ended, 1, str(path), "elete")
            shutil.copy(original, path)
            assert trainer.run(inputs, tmp_path).code == 0
        else:
            assert "checkpoint before it" in ended.out or "previous checkpoint" in ended.out, ended.out
        assert_same_results(name, tmp_path, expected)
        counts("ppo, vlm: damaged files")


@ALL
def test_a_wrong_command_writes_nothing(name: str, inputs: Inputs, tmp_path: Path) -> None:
    trainer, nowhere = TRAINERS[name], tmp_path / "nowhere"
    wrong = Inputs(nowhere, inputs.toolbox, inputs.planner)
    assert_last_line(trainer.run(wrong, tmp_path), 1, f"{nowhere}: expected a folder of images")
    wrong = Inputs(inputs.images, nowhere, inputs.planner)
    assert_last_line(trainer.run(wrong, tmp_path), 1, f"no toolbox '{nowhere}'")
    if name != "grpo":  # tests/agents/vlm/test_command_line.py has its command line
        assert_last_line(trainer.run(inputs, tmp_path, "--threads", "0"), 2, "--threads 0: expected")
        assert_last_line(trainer.run(inputs, tmp_path, "--reward", "lit"), 1, "unknown reward 'lit'")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("file", ["config.json", "processor_config.json", "hostile.py"])
def test_restore_never_runs_code_of_a_model_and_asks_no_question(
    file: str, photos: Path, tmp_path: Path, counts: Counts
) -> None:
    """Standard input says yes to every question."""
    folder = Path(shutil.copytree(SHIPPED, tmp_path / "model"))
    code = "from pathlib import Path\nPath(__file__).with_name('code-was-run').touch()\n"
    (folder / "hostile.py" if file == "hostile.py" else tmp_path / "hostile.py").write_text(code)
    if file != "hostile.py":
        values = json.loads((folder / file).read_text())
        names = ("AutoConfig", "AutoProcessor", "AutoTokenizer", "AutoModelForImageTextToText")
        classes = {name: f"{tmp_path}--hostile.Hostile" for name in names}
        (folder / file).write_text(json.dumps(values | {"auto_map": classes, "model_type": "hostile"}))
    target = tmp_path / "restored.png"
    command = ("restore", str(photos / "0.png"), "-o", str(target), "--agent", f"vlm:{folder}")
    yes = f"import sys, io; sys.stdin = io.StringIO('y\\n' * 9); {OPERA_ENV[1]}"
    ended = run((OPERA_ENV[0], yes, *command))
    assert_last_line(ended, 1, "error: ", file, "never run")
    assert "[y/N]" not in ended.out + ended.err
    assert not target.exists() and not list(tmp_path.rglob("code-was-run"))
    counts("vlm: hostile models refused")
