"""The container files and the release workflow pass their linters, and agree with the package."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from opera_env.cli.options.demo import Demo
from opera_env.cli.options.serve import Serve
from opera_env.command_line import parse_settings

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
DOCKERFILES = [ROOT / "Dockerfile", ROOT / "examples" / "openenv_opera" / "server" / "Dockerfile"]


def lint(program: str, *arguments: str) -> None:
    path = Path(sys.executable).parent / program
    if not path.exists():
        pytest.skip(f"the test needs {program}, which make setup installs on Linux")
    done = subprocess.run([path, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def compose_files() -> dict[str, Any]:
    return {path.name: yaml.safe_load(path.read_text()) for path in ROOT.glob("compose*.yaml")}


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_dockerfiles_pass_hadolint(path: Path) -> None:
    lint("hadolint", str(path.relative_to(ROOT)))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_pass_zizmor(path: Path) -> None:
    lint("zizmor", "--offline", "--quiet", "--persona", "pedantic", str(path.relative_to(ROOT)))


def test_only_the_job_that_publishes_may_do_so() -> None:
    release = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
    assert release["permissions"] == {}
    jobs = release["jobs"]
    for name, job in jobs.items():
        writes = {scope for scope, access in job["permissions"].items() if access == "write"}
        assert writes == ({"id-token", "attestations"} if name == "publish" else set()), name
    assert set(jobs["publish"]["needs"]) == {"build", "try", "test"}
    assert jobs["test"]["steps"][-1]["run"] == "make setup lint types docs test test-slow"
    uses = [step["uses"] for job in jobs.values() for step in job["steps"] if "uses" in step]
    assert uses and all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", use) for use in uses)
    scripts = "\n".join(step.get("run", "") for step in jobs["try"]["steps"])
    examples = re.findall(r"python (\w+\.py)", scripts)
    assert examples and all((ROOT / "examples" / name).exists() for name in examples)


def test_services_have_valid_commands_and_are_open_to_this_machine_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPERA_ENV_TOKEN", "a token")
    services = compose_files()["compose.yaml"]["services"]
    options: dict[str, type[Demo | Serve]] = {"demo": Demo, "serve": Serve}
    for name, service in services.items():
        command, *arguments = service["command"]
        settings = parse_settings(options[command], arguments)
        assert settings.host == "0.0.0.0"
        (port,) = service["ports"]
        assert port == f"127.0.0.1:{settings.port}:{settings.port}", name
        assert str(settings.port) in service["healthcheck"]["test"][-1]
    assert set(compose_files()["compose.cuda.yaml"]["services"]) == set(services)


def test_the_dockerfile_copies_what_the_builder_is_sent() -> None:
    text = (ROOT / "Dockerfile").read_text()
    copied = {name for line in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE) for name in line.split()}
    sent = set(re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    assert copied == sent and all((ROOT / name).exists() for name in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (extras,) = re.findall(r'"\.\[([\w,]+)\]"', text)
    assert set(extras.split(",")) <= set(project["project"]["optional-dependencies"])
    files = [project["project"]["readme"], *project["project"]["license-files"]]
    assert set(files) <= copied


def test_the_environment_of_openenv_is_sent_to_its_builder() -> None:
    """Its Dockerfile copies all that is sent, and then moves the folder of the environment."""
    folder = ROOT / "examples" / "openenv_opera"
    dockerfile = (folder / "server" / "Dockerfile").read_text()
    sent = (folder / "server" / "Dockerfile.dockerignore").read_text().splitlines()
    assert "COPY . /opera" in dockerfile and "mv /opera/examples/openenv_opera" in dockerfile
    root = (ROOT / ".dockerignore").read_text().splitlines()
    assert {line for line in root if line.startswith("!")} < set(sent)
    assert "!examples/openenv_opera" in sent


def test_the_extra_all_has_everything_but_what_is_not_free_and_what_developers_need() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (everything,) = extras["all"]
    named = set(re.fullmatch(r"opera-env\[(.+)\]", everything)[1].split(","))  # type: ignore[index]
    assert named == set(extras) - {"all", "dev", "docs", "iqa"}
