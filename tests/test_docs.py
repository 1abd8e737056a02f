"""The documentation agrees with the code: tables, links, named files and commands."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import pytest

from opera_env.cli import main
from opera_env.envs.config import EnvConfig
from opera_env.envs.stepwise import StepwiseConfig
from opera_env.metrics import build_metric
from opera_env.reward import REWARD_PRESETS
from opera_env.tools import Toolbox

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), *sorted(ROOT.glob("*.md"))]
ENVIRONMENTS = [
    ("restore.md", EnvConfig, "opera_env:OPERA-Restore-v0"),
    ("restore_stepwise.md", StepwiseConfig, "opera_env:OPERA-RestoreStepwise-v0"),
]
WORST = {"clipiqa": 0.0, "musiq": 0.0, "lpips": 2.0}
"""Failure values of metrics whose weights may be absent."""

PACKAGES = {"opera_agents": "agents/opera_agents", "opera_baselines": "baselines/opera_baselines"}


def section(page: Path, title: str) -> str:
    """Returns the text under a second-level heading."""
    return page.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]


def first_cells(text: str) -> list[list[str]]:
    """Returns the rows of the tables in a text, without headers."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line[:1] == "|"
    ]
    return [row for row in rows if row[0].startswith("`")]


@pytest.mark.parametrize("preset", ["lite", "classic", "label_free", "no_reference", "paper", "release"])
def test_table_of_reward_terms(preset: str) -> None:
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_existing_files_and_headings(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if target.startswith("http"):
            continue
        name, _, heading = target.partition("#")
        file = (page.parent / name) if name else page
        assert file.exists(), target
        if heading:
            assert heading in anchors(file), target


def anchors(page: Path) -> set[str]:
    """Returns the anchors that GitHub makes for the headings of a page."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def named_files(text: str) -> set[str]:
    """Returns the paths in a text that start with a folder of this repository."""
    folders = "agents|baselines|docs|examples|opera_agents|opera_baselines|opera_env|scripts|tests"
    return set(re.findall(rf"(?<![\w./])((?:{folders})/[\w./-]*\w/?)", text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_exist(page: Path) -> None:
    for name in named_files(re.sub(r"https?://\S+", "", page.read_text())):
        top, _, rest = name.partition("/")
        assert (ROOT / PACKAGES.get(top, top) / rest).exists(), name


def commands(text: str) -> list[list[str]]:
    """Returns our commands in a text, in code blocks and inline, as lists of words."""
    spans = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL) + re.findall(
        r"(?<!`)`([^`]+)`(?!`)", text
    )
    lines = [line for span in spans for line in span.replace("\\\n", " ").splitlines()]
    if_ours = r"(?:opera-env \w+|python -m opera_\S+|python scripts/\S+).*"
    flat = [" ".join(line.split()) for line in lines] + [" ".join(span.split()) for span in spans]
    return [
        match[0].split() for line in flat if (match := re.fullmatch(if_ours, line.split(" #")[0].strip()))
    ]


def known_options(words: list[str]) -> tuple[str, ...]:
    """Returns the command up to its options: what ``--help`` is appended to."""
    length = 2 if words[0] == "opera-env" or words[1] != "-m" else 3
    if words[:2] == ["opera-env", "tools"] or words[:2] == ["opera-env", "weights"]:
        length = 3
    return tuple(words[:length])


@pytest.mark.slow
def test_commands_in_the_documentation_have_their_options() -> None:
    used: dict[tuple[str, ...], set[str]] = {}
    for page in PAGES:
        for words in commands(page.read_text()):
            if page.name != "CHANGELOG.md":
                options = {word for word in words if word.startswith("--") and "." not in word}
                used.setdefault(known_options(words), set()).update(options)
    assert len(used) > 15
    for command, options in used.items():
        program = [sys.executable, *command[1:]]
        if command[0] == "opera-env":
            start = "import sys; from opera_env.cli import main; sys.exit(main())"
            program = [sys.executable, "-c", start, *command[1:]]
        done = subprocess.run([*program, "--help"], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stderr)
        for option in options:
            assert option in done.stdout, (command, option)


@pytest.mark.parametrize(("name", "config", "env_id"), ENVIRONMENTS)
def test_environment_page(name: str, config: type[EnvConfig], env_id: str) -> None:
    """The tables have all arguments with their defaults, and all info keys; the example runs."""
    page = DOCS / "environments" / name
    arguments = {
        row[0].strip("`"): row[1].strip("`").strip('"') for row in first_cells(section(page, "Arguments"))
    }
    assert arguments.pop("render_mode") == "None"
    defaults = {field.name: str(field.default) for field in dataclasses.fields(config)}
    assert arguments == defaults

    env = gym.make(env_id, reward="classic", obs_size=32)
    env.reset(seed=0)
    *_, info = env.step(env.action_space.sample())
    assert [row[0].strip("`") for row in first_cells(section(page, "Info"))] == list(info)


@pytest.mark.parametrize("name", [name for name, _, _ in ENVIRONMENTS])
def test_environment_example_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = section(DOCS / "environments" / name, "Example").split("```python\n")[1].split("```")[0]
    exec(compile(text, name, "exec"), {})
    assert capsys.readouterr().out.strip()


def test_card_of_lite_equals_the_manifest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tools", "card", "--markdown"]) == 0
    page = (DOCS / "toolbox-lite.md").read_text()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(rows) == 2 * (2 + len(Toolbox.load("lite")))
    for row in rows:
        assert row in page


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 900
