"""The shipped tiny model: its size, its answers, its labels, and its reasoning in `restore`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from opera_agents.vlm.agent import SHIPPED
from opera_agents.vlm.saved import load_card
from opera_env.agents import make_agent, run_agent
from opera_env.cli import main
from opera_env.data import bundled, clean_folder
from opera_env.degradations import benchmark_recipes, degrade
from opera_env.reward import f1_score
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox


@pytest.fixture(scope="module")
def lite() -> Toolbox:
    return Toolbox.load("lite")


def test_shipped_model_is_small_and_for_the_toolbox_lite(lite: Toolbox) -> None:
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) < 8e6
    card = load_card(SHIPPED)
    assert card is not None
    card.check(lite)


def test_answers_can_be_parsed_and_have_reasoning(lite: Toolbox) -> None:
    source = bundled()
    specs = source.list_specs(12, benchmark_recipes(), np.random.default_rng(3))
    samples = [source.make(spec) for spec in specs]
    result = run_agent(make_agent("vlm", toolbox=lite), samples, PlanScorer(lite, "classic"), 6)
    assert all(
        decision is not None and decision.error is None and decision.reasoning
        for decision in result.decisions
    )
    assert len(set(result.plans)) > 4, "plans depend on the photograph"


@pytest.mark.needs_shared_data
def test_shipped_model_recognises_degradations(shared_data: Path, lite: Toolbox) -> None:
    source = clean_folder(shared_data / "bsds500" / "val")
    specs = source.list_specs(48, benchmark_recipes(), np.random.default_rng(6))
    samples = [source.make(spec) for spec in specs]
    result = run_agent(make_agent("vlm", toolbox=lite), samples, PlanScorer(lite, "classic"), 6)
    scores = [
        f1_score(decision.degradations or frozenset(), sample.degradations or frozenset())
        for decision, sample in zip(result.decisions, samples, strict=True)
        if decision is not None
    ]
    assert np.mean(scores) > 0.55, "chance is about 0.3"


def test_restore_prints_the_reasoning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noisy, _ = degrade(np.asarray(skimage.data.coffee()), ("noise",), np.random.default_rng(0))
    Image.fromarray(noisy[:160, :160]).save(tmp_path / "noisy.png")
    words = f"restore {tmp_path / 'noisy.png'} -o {tmp_path / 'out.png'} --agent vlm:{SHIPPED} --window 128"
    assert main(words.split()) == 0
    assert (tmp_path / "out.png").is_file()
    lines = capsys.readouterr().err.split(f"[planned by vlm:{SHIPPED} in ")[1].splitlines()
    assert lines[0].endswith(" s]")
    assert any(line.startswith("  reasoning: ") and len(line.split()) > 3 for line in lines)
