"""The wheel is small, has what the packages need, and runs where it is installed alone."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
MAX_BYTES = 40_000_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as pip builds it, with the build system that pyproject.toml names."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "-w", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("opera_env-*.whl")
    return path


def test_it_is_small_and_has_the_three_packages_with_their_files(wheel: Path) -> None:
    assert wheel.stat().st_size <= MAX_BYTES
    names = set(zipfile.ZipFile(wheel).namelist())
    folders = {"opera_env": ROOT, "opera_agents": ROOT / "agents", "opera_baselines": ROOT / "baselines"}
    for package, folder in folders.items():
        files = [path for path in (folder / package).rglob("*") if path.is_file()]
        kept = [path for path in files if path.suffix not in (".pyc", ".lock", ".partial")]
        kept = [path for path in kept if path.parent.name != "lite-adapted"]  # for studies alone
        assert {path.relative_to(folder).as_posix() for path in kept} <= names
    assert not any("lite-adapted/" in name for name in names)
    tops = {name.partition("/")[0].partition("-")[0] for name in names}
    assert tops == {"opera_env", "opera_agents", "opera_baselines"}


def test_it_runs_where_it_is_installed_alone(
    wheel: Path, tmp_path: Path, child_environment: dict[str, str]
) -> None:
    target = tmp_path / "installed"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target", str(target)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    code = """
import opera_env, gymnasium as gym, opera_agents, opera_baselines
from opera_env.agents import agent_names
print(opera_env.__file__, opera_agents.__file__, opera_baselines.__file__)
env = gym.make("OPERA-Restore-v0", reward="classic", canvas=64, max_tools=2)
env.reset(seed=0)
print(env.step(env.action_space.sample())[1], "planner" in agent_names())
from opera_env.errors import ToolboxError
from opera_env.tools import Toolbox
try:
    Toolbox.load("lite-adapted")
except ToolboxError as error:
    print(error)
"""
    environment = child_environment | {"PYTHONPATH": str(target)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    files, answer, error = done.stdout.splitlines()
    assert "is in the repository alone" in error and "install the package from a clone" in error
    assert all(Path(file).is_relative_to(target) for file in files.split())
    assert float(answer.split()[0]) > 0 and answer.endswith("True")
