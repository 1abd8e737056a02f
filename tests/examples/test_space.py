"""The folder of a Hugging Face Space: what the hub reads of it, and that it starts."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tomllib
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
SPACE = ROOT / "examples" / "space"


def test_what_the_hub_reads_agrees_with_the_package() -> None:
    _, matter, text = (SPACE / "README.md").read_text().split("---\n", 2)
    card = yaml.safe_load(matter)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert card["sdk"] == "gradio" and (SPACE / card["app_file"]).exists() and text.strip()
    assert card["license"].lower() == project["license"].lower()
    assert len(card["short_description"]) <= 60
    python = Requirement(f"python{project['requires-python']}")
    assert card["python_version"] in python.specifier
    extras = project["optional-dependencies"]
    (gradio,) = [Requirement(line) for line in extras["demo"] if line.startswith("gradio")]
    assert card["sdk_version"] in gradio.specifier
    (required,) = map(Requirement, (SPACE / "requirements.txt").read_text().split())
    assert required.name == project["name"] and required.extras == {"agents", "demo"} <= set(extras)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("gradio") is None, reason="the page needs the extra demo")
def test_it_serves_the_page_where_the_hub_says(child_environment: dict[str, str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = child_environment | {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": port}
    command = [sys.executable, SPACE / "app.py"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = next((line for line in process.stdout if line.startswith("open ")), "")
            address = line.removeprefix("open ").partition(";")[0].strip()
            assert address == f"http://127.0.0.1:{port}/"
            with urllib.request.urlopen(address, timeout=60) as answer:
                assert "opera-env" in answer.read().decode()
        finally:
            process.send_signal(signal.SIGTERM)
    assert process.returncode == 128 + signal.SIGTERM
