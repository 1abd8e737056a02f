"""The documentation agrees with the code: tables, links, named files and commands."""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path

import gymnasium as gym
import pytest

from opera_env.cli import main
from opera_env.envs.config import EnvConfig
from opera_env.envs.stepwise import StepwiseConfig, StepwiseEnv
from opera_env.metrics import build_metric
from opera_env.reward import REWARD_PRESETS
from opera_env.tools import Toolbox

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
CHANGELOG = ROOT / "CHANGELOG.md"
PAGES = [*sorted(DOCS.rglob("*.md")), *sorted(ROOT.glob("*.md"))]
CURRENT_PAGES = [page for page in PAGES if page != CHANGELOG]
"""All pages but the changelog, which also has old names."""

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


@pytest.mark.parametrize("page", CURRENT_PAGES, ids=lambda page: page.name)
def test_named_files_exist(page: Path) -> None:
    for name in named_files(re.sub(r"https?://\S+", "", page.read_text())):
        top, _, rest = name.partition("/")
        assert (ROOT / PACKAGES.get(top, top) / rest).exists(), name


@pytest.mark.parametrize("page", CURRENT_PAGES, ids=lambda page: page.name)
def test_named_tests_exist(page: Path) -> None:
    for file, name in re.findall(r"`(tests/[\w/.-]+\.py)::(\w+)`", page.read_text()):
        assert f"def {name}(" in (ROOT / file).read_text(), f"{file}::{name}"


def test_each_protection_of_an_input_that_is_not_trusted_has_code_and_a_test() -> None:
    section = (ROOT / "SECURITY.md").read_text().split("## What is not trusted")[1]
    rows = [row.strip("| ").split(" | ") for row in section.splitlines() if row.startswith("| ")][1:]
    assert len(rows) >= 12
    for name, protection, code, tests in rows:
        assert protection and re.match(r"`opera_(env|agents)/", code) and tests.startswith("`tests/"), name


def commands(text: str) -> list[list[str]]:
    """Returns our commands in a text, from code blocks and inline code, as lists of words."""
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    lines = [line.split(" #")[0] for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    lines += re.findall(r"`([^`]+)`", text)
    words = [line.replace("accelerate launch", "").split() for line in lines]
    return [words for words in words if words and options_of(words) is not None]


def options_of(words: list[str]) -> set[str] | None:
    """Returns the options that one of our commands declares in its source; None for other programs."""
    if words[0] == "opera-env" and len(words) > 1:
        files = [
            *(ROOT / "opera_env/cli").rglob(f"{words[1].replace('-', '_')}.py"),
            ROOT / "opera_env/cli/command.py",
        ]
        files += (ROOT / "opera_env/tool_training").glob("*.py") if words[1] == "tools" else []
    elif words[:2] == ["python", "-m"] and words[2].startswith("opera_"):
        folder, _, _ = words[2].replace(".", "/").rpartition("/")
        top, _, rest = folder.partition("/")
        files = [*(ROOT / PACKAGES.get(top, top) / rest).glob("*.py")]
    elif words[0] == "python" and words[1].startswith("scripts/"):
        files = [ROOT / words[1]]
    else:
        return None
    texts = [file.read_text() for file in files]
    fields = {name for text in texts for name in re.findall(r"^    (\w+): ", text, re.MULTILINE)}
    fields |= {
        name for text in texts for name in re.findall(r'\barg\(name="(\w+)"', text)
    }  # such as "from"
    switches = {name for text in texts for name in re.findall(r"^    (\w+): bool\b", text, re.MULTILINE)}
    fields |= {f"no_{name}" for name in switches}
    spellings = {f"--{spelling}" for name in fields for spelling in (name, name.replace("_", "-"))}
    return {"--help", "--tyro-print-completion"} | spellings


@pytest.mark.parametrize("page", CURRENT_PAGES, ids=lambda page: page.name)
def test_commands_have_the_options_that_pages_show(page: Path) -> None:
    for words in commands(page.read_text()):
        if "opera_agents.vlm.grpo" in words:
            continue  # most of its options are TRL's
        shown = {word for word in words if re.fullmatch(r"--[\w-]+", word)}
        if words[:2] == ["python", "-m"]:
            top, _, rest = words[2].partition(".")
            assert (ROOT / PACKAGES[top] / (rest.replace(".", "/") + ".py")).is_file(), words[2]
        declared = options_of(words)
        assert declared is not None and shown <= declared, (" ".join(words[:3]), shown - declared)


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


@pytest.mark.slow
def test_learning_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    text = section(DOCS / "environments" / "restore_stepwise.md", "Learning")
    exec(compile(text.split("```python\n")[1].split("```")[0], "learning", "exec"), {})
    assert capsys.readouterr().out.splitlines()[-1] == "True"


def python_sources() -> dict[str, str]:
    """Returns the code of examples and of the blocks in pages, by the names of their files."""
    blocks = {page.name: re.findall(r"```python\n(.*?)```", page.read_text(), re.S) for page in PAGES}
    examples = {path.name: path.read_text() for path in (ROOT / "examples").rglob("*.py")}
    return examples | {name: "\n".join(found) for name, found in blocks.items() if found}


def test_learners_do_not_discount() -> None:
    """Gains add up to the reward for gamma = 1 alone: the page says so, and all shown learners have it."""
    page = (DOCS / "environments" / "restore_stepwise.md").read_text()
    assert "Set gamma to 1 in your learner" in section(
        DOCS / "environments" / "restore_stepwise.md", "Rewards"
    )
    assert "gamma=1.0" in page and "gamma = 1" in (StepwiseEnv.__doc__ or "")
    learners = [
        (name, {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords})
        for name, text in python_sources().items()
        for call in ast.walk(ast.parse(text))
        if isinstance(call, ast.Call) and re.search(r"(PPO|A2C|DQN)$", ast.unparse(call.func))
    ]
    assert {name for name, _ in learners} >= {"07_sb3_one_shot.py", "restore_stepwise.md"}
    assert all(keywords.get("gamma") == "1.0" for _, keywords in learners), learners


def test_card_of_lite_equals_the_manifest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tools", "card", "--markdown"]) == 0
    page = (DOCS / "toolbox-lite.md").read_text()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(rows) == 2 * (2 + len(Toolbox.load("lite")))
    for row in rows:
        assert row in page


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 900
