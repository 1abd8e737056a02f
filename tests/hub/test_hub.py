"""Toolboxes, agents, critics and results travel by a hub and arrive unchanged; anything else is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import opera_agents.planner.saved
import opera_agents.ppo.agent
import opera_agents.vlm.agent
from opera_agents.planner.agent import Planner
from opera_env.cli import main
from opera_env.errors import HubError, OutputError, UntrustedCodeError, WeightsIntegrityError
from opera_env.hub import pull, pull_folder, push_folder
from opera_env.hub.manifest import MANIFEST
from opera_env.metrics.critic import SHIPPED_CRITIC, Critic
from opera_env.tools import Toolbox
from opera_env.types import Observation
from tests.hub.stand_in import StandIn

PPO = opera_agents.ppo.agent.SHIPPED
VLM = opera_agents.vlm.agent.SHIPPED


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def tools() -> Toolbox:
    return Toolbox.load("lite").subset(["unet.denoise_15", "brighten.gamma_correction"])


@pytest.fixture
def pushed(hub: StandIn, tools: Toolbox) -> StandIn:
    tools.push_to_hub("me/tools", endpoint=hub.endpoint, licence="apache-2.0")
    return hub


def rewrite_manifest(hub: StandIn, change: Callable[[dict[str, Any]], None]) -> None:
    files = hub.repositories["me/tools"].files
    manifest = json.loads(files[MANIFEST])
    change(manifest)
    files[MANIFEST] = json.dumps(manifest).encode()


def test_a_toolbox_comes_back_as_it_was(pushed: StandIn, tools: Toolbox) -> None:
    pulled = Toolbox.from_pretrained("me/tools", endpoint=pushed.endpoint)
    assert pulled.names == tools.names
    assert (pulled.signature, pulled.fingerprint) == (tools.signature, tools.fingerprint)


def test_from_pretrained_takes_what_load_takes(tmp_path: Path, tools: Toolbox) -> None:
    tools.save(tmp_path)
    assert Toolbox.from_pretrained(tmp_path).fingerprint == tools.fingerprint
    assert Toolbox.from_pretrained("lite").fingerprint == Toolbox.load("lite").fingerprint


def test_the_page_lists_tools_use_and_hashes(pushed: StandIn) -> None:
    page = pushed.repositories["me/tools"].files["README.md"].decode()
    assert page.startswith("---\nlibrary_name: opera-env\n") and "license: apache-2.0\n" in page
    assert "| unet.denoise_15 | noise |" in page and "opera-env hub pull me/tools -o tools" in page
    manifest = json.loads(pushed.repositories["me/tools"].files[MANIFEST])
    assert all(file["sha256"] in page for file in manifest["files"])


def test_the_cache_keeps_a_commit(pushed: StandIn) -> None:
    first = pull_folder("me/tools", endpoint=pushed.endpoint)
    pushed.requests.clear()
    assert pull_folder("me/tools", endpoint=pushed.endpoint) == first
    assert not [request for request in pushed.requests if "/resolve/" in request]
    assert pull_folder("me/tools", revision=first.name, endpoint=pushed.endpoint) == first
    pushed.requests.clear()
    assert pull_folder("me/tools", revision=first.name, endpoint="http://127.0.0.1:1") == first
    assert not pushed.requests, "a commit that is here needs no hub"


def test_two_processes_may_pull_the_same_commit(pushed: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slower one finds the folder of the other in place of its own."""
    download = pull._download

    def slow(*args: Any) -> Any:
        result = download(*args)
        monkeypatch.setattr(pull, "_download", download)
        slow_target.append(pull_folder("me/tools", endpoint=pushed.endpoint))
        return result

    slow_target: list[Path] = []
    monkeypatch.setattr(pull, "_download", slow)
    assert [pull_folder("me/tools", endpoint=pushed.endpoint)] == slow_target
    assert [path.name for path in slow_target[0].parent.iterdir()] == [slow_target[0].name]


@pytest.mark.parametrize("content", [b"[]", b"{bad", b"{}"])
def test_a_damaged_template_is_an_error_of_one_line(hub: StandIn, tmp_path: Path, content: bytes) -> None:
    push_folder(VLM, "me/vlm", endpoint=hub.endpoint)
    files = hub.repositories["me/vlm"].files
    files["chat_template.json"] = content
    manifest = json.loads(files[MANIFEST])
    for file in manifest["files"]:
        if file["name"] == "chat_template.json":
            file |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    files[MANIFEST] = json.dumps(manifest).encode()
    with pytest.raises(HubError, match=r"chat_template\.json"):
        pull_folder("me/vlm", tmp_path / "vlm", endpoint=hub.endpoint)
    assert not (tmp_path / "vlm").exists()


@pytest.mark.parametrize(
    ("source", "extra"),
    [(opera_agents.planner.saved.SHIPPED, "checkpoint.pt"), (PPO, "curves.tfevents"), (VLM, None)],
    ids=["planner", "ppo", "vlm"],
)
def test_agents_arrive_byte_for_byte_and_alone(
    hub: StandIn, source: Path, extra: str | None, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name, data in contents(source).items():
        (run / name).write_bytes(data)
    expected = contents(run)
    if extra is not None:
        (run / extra).write_bytes(b"stays here")
    push_folder(run, "me/agent", endpoint=hub.endpoint)
    travelled = hub.repositories["me/agent"].files
    assert {Path(name).suffix for name in travelled} <= {".json", ".safetensors", ".md"}
    pulled = pull_folder("me/agent", tmp_path / "pulled", endpoint=hub.endpoint)
    assert contents(pulled) == expected


def test_planner_and_critic_push_and_load_themselves(hub: StandIn) -> None:
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    planner = Planner.from_pretrained(opera_agents.planner.saved.SHIPPED)
    planner.push_to_hub("me/planner", endpoint=hub.endpoint)
    again = Planner.from_pretrained("me/planner", endpoint=hub.endpoint)
    observation = [Observation(image, image)]
    assert again.act(observation) == planner.act(observation)
    Critic().push_to_hub("me/critic", endpoint=hub.endpoint)
    critic = Critic.from_pretrained("me/critic", endpoint=hub.endpoint)
    assert critic.weights.read_bytes() == SHIPPED_CRITIC.read_bytes()


def test_results_travel_as_a_dataset(hub: StandIn, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "entry.jsonl").write_text('{"r_q": 6.4}\n')
    push_folder(folder, "me/results", endpoint=hub.endpoint)
    assert list(hub.repositories) == ["datasets/me/results"]
    pulled = pull_folder("me/results", repo_type="dataset", endpoint=hub.endpoint)
    assert contents(pulled) == contents(folder)
    page = hub.repositories["datasets/me/results"].files["README.md"].decode()
    assert "opera-env hub pull me/results --dataset -o results" in page


def test_the_command_pushes_and_pulls(
    hub: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, endpoint = tmp_path / "pulled", ["--endpoint", hub.endpoint]
    assert main(["hub", "push", str(PPO), "me/ppo", "--private", *endpoint]) == 0
    assert main(["hub", "pull", "me/ppo", "-o", str(folder), *endpoint]) == 0
    printed = capsys.readouterr().out
    assert "ppo of me/ppo, checked" in printed and f"--agent ppo:{folder}" in printed
    assert main(["hub", "pull", "me/ppo", "-o", str(folder), *endpoint]) == 1
    assert "nothing is overwritten" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["pull"], ["push", "runs"], ["pull", "a/b", "c/d"]], ids=" ".join)
def test_the_command_says_which_names_it_needs(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["hub", *words]) == 2
    assert "OWNER/NAME" in capsys.readouterr().err


def test_a_changed_file_is_an_error_and_leaves_nothing(pushed: StandIn, tmp_path: Path) -> None:
    files = pushed.repositories["me/tools"].files
    name = next(name for name in files if name.endswith(".safetensors"))
    files[name] = files[name][:-1] + bytes([files[name][-1] ^ 1])
    with pytest.raises(WeightsIntegrityError, match=name):
        pull_folder("me/tools", tmp_path / "new" / "tools", endpoint=pushed.endpoint)
    assert not list((tmp_path / "new").iterdir())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../tools.json", "expected the name"),
        ("sub/unet.safetensors", "expected the name"),
        ("weights.pt", "expected the name"),
        (".bashrc.json", "expected the name"),
        ("config.json", "of a toolbox"),  # of another kind
        (MANIFEST, "expected the name"),
    ],
)
def test_names_that_do_not_belong_are_refused_before_any_download(
    pushed: StandIn, tmp_path: Path, name: str, reason: str
) -> None:
    rewrite_manifest(pushed, lambda manifest: manifest["files"][0].update(name=name))
    pushed.requests.clear()
    with pytest.raises(HubError, match=reason):
        pull_folder("me/tools", tmp_path / "tools", endpoint=pushed.endpoint)
    fetched = {request.rpartition("/")[2] for request in pushed.requests if "/resolve/" in request}
    assert fetched == {MANIFEST} and not list(tmp_path.glob("tools*"))


def test_sizes_are_compared_before_any_download(pushed: StandIn) -> None:
    with pytest.raises(HubError, match="at most 100 bytes"):
        pull_folder("me/tools", max_bytes=100, endpoint=pushed.endpoint)
    rewrite_manifest(pushed, lambda manifest: manifest["files"][0].update(bytes=1))
    with pytest.raises(HubError, match="expected 1 bytes, found"):
        pull_folder("me/tools", endpoint=pushed.endpoint)


@pytest.mark.parametrize("changed", [{"format": 2}, {"kind": "model"}, {"files": []}], ids=str)
def test_manifests_of_something_else_are_refused(pushed: StandIn, changed: dict[str, Any]) -> None:
    rewrite_manifest(pushed, lambda manifest: manifest.update(changed))
    with pytest.raises(HubError, match=next(iter(changed))):
        pull_folder("me/tools", endpoint=pushed.endpoint)


def test_code_never_travels(hub: StandIn, tmp_path: Path) -> None:
    traced = torch.jit.script(nn.Conv2d(3, 3, 3, padding=1))
    torch.jit.save(traced, tmp_path / "net.pt")
    toolbox = Toolbox().add("mine.net", tmp_path / "net.pt")
    with pytest.raises(HubError, match="may hold code"):
        toolbox.push_to_hub("me/code", endpoint=hub.endpoint)
    named = Toolbox().add("mine.named", "tests.own_tools:Blend")
    named.push_to_hub("me/named", endpoint=hub.endpoint)
    with pytest.raises(UntrustedCodeError, match=r"tests\.own_tools:Blend"):
        Toolbox.from_pretrained("me/named", endpoint=hub.endpoint)


def test_errors_say_what_to_do(hub: StandIn, pushed: StandIn, tmp_path: Path) -> None:
    with pytest.raises(HubError, match="HF_TOKEN"):
        pull_folder("me/absent", endpoint=hub.endpoint)
    with pytest.raises(HubError, match="--revision"):
        pull_folder("me/tools", revision="v9", endpoint=hub.endpoint)
    with pytest.raises(HubError, match="owner/name"):
        pull_folder("tools", endpoint=hub.endpoint)
    with pytest.raises(HubError, match=r"toolbox\.json"):
        push_folder(tmp_path, "me/empty", endpoint=hub.endpoint)
    del pushed.repositories["me/tools"].files[MANIFEST]
    with pytest.raises(HubError, match="opera-env hub push"):
        pull_folder("me/tools", endpoint=hub.endpoint)
    with pytest.raises(HubError, match="network"):
        pull_folder("me/tools", endpoint="http://127.0.0.1:9")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="overwritten"):
        pull_folder("me/tools", tmp_path, endpoint=hub.endpoint)
