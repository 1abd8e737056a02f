"""The tiny model that comes with the package: it answers as it was taught, and `restore` shows why."""

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


def test_it_is_small_and_knows_the_shipped_tools(lite: Toolbox) -> None:
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) < 8e6
    told = load_card(SHIPPED)
    assert told is not None
    told.check(lite)


def test_its_answers_can_be_read_and_give_reasons(lite: Toolbox) -> None:
    source = bundled()
    specs = source.list_specs(12, benchmark_recipes(), np.random.default_rng(3))
    samples = [source.make(spec) for spec in specs]
    played = run_agent(make_agent("vlm", toolbox=lite), samples, PlanScorer(lite, "classic"), 6)
    assert all(said is not None and said.error is None and said.reasoning for said in played.decisions)
    assert len(set(played.plans)) > 4, "it looks at the photograph"


@pytest.mark.needs_shared_data
def test_it_sees_what_is_wrong(shared_data: Path, lite: Toolbox) -> None:
    source = clean_folder(shared_data / "bsds500" / "val")
    specs = source.list_specs(48, benchmark_recipes(), np.random.default_rng(6))
    samples = [source.make(spec) for spec in specs]
    played = run_agent(make_agent("vlm", toolbox=lite), samples, PlanScorer(lite, "classic"), 6)
    found = [
        f1_score(said.degradations or frozenset(), sample.degradations or frozenset())
        for said, sample in zip(played.decisions, samples, strict=True)
        if said is not None
    ]
    assert np.mean(found) > 0.55, "chance is about .3"


def test_restore_shows_its_reasons(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noisy, _ = degrade(np.asarray(skimage.data.coffee()), ("noise",), np.random.default_rng(0))
    Image.fromarray(noisy[:160, :160]).save(tmp_path / "noisy.png")
    words = f"restore {tmp_path / 'noisy.png'} -o {tmp_path / 'out.png'} --agent vlm:{SHIPPED} --view 128"
    assert main(words.split()) == 0
    assert (tmp_path / "out.png").is_file()
    said = capsys.readouterr().err.split(f"[planned by vlm:{SHIPPED} in ")[1].splitlines()
    assert said[0].endswith(" s]") and len(said[1].split()) > 3
