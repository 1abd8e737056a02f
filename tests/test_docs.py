"""What the documentation says is what the code does."""

import re
from pathlib import Path

import pytest

from opera_env.cli import main
from opera_env.metrics import build_metric
from opera_env.reward import REWARD_PRESETS
from opera_env.tools import Toolbox

DOCS = Path(__file__).resolve().parents[1] / "docs"
WORST = {"clipiqa": 0.0, "musiq": 0.0, "lpips": 2.0}
"""Failure values of metrics whose weights may not be here."""


@pytest.mark.parametrize("preset", ["lite", "classic", "label_free", "no_reference", "paper", "release"])
def test_the_table_of_terms(preset: str) -> None:
    rows = {}
    for line in (DOCS / "rewards.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if preset in cells[0].split(", "):
            rows[cells[1]] = cells[2:]
    reward = REWARD_PRESETS[preset]
    assert list(rows) == [term.name for term in reward.terms]
    for term in reward.terms:
        worst = WORST[term.name] if term.name in WORST else build_metric(term.name).worst
        low, high, weight, clipped, failure = rows[term.name]
        assert [float(value) for value in (low, high, weight, failure)] == [
            term.low,
            term.high,
            term.weight,
            worst,
        ]
        assert clipped == ("yes" if term.clip else "no")


@pytest.mark.parametrize(
    "path", [*DOCS.rglob("*.md"), DOCS.parent / "README.md"], ids=lambda path: path.name
)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target


def test_the_card_of_lite_is_that_of_the_manifest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tools", "card", "--markdown"]) == 0
    page = (DOCS / "toolbox-lite.md").read_text()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(rows) == 2 * (2 + len(Toolbox.load("lite")))
    for row in rows:
        assert row in page
