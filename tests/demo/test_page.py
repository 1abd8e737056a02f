"""The page in a browser's place: its actions by gradio's client, and its tools by an MCP client."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import time
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

if find_spec("gradio") is None:  # not imported here, as the page sets variables before
    pytest.skip("the page needs the extra demo", allow_module_level=True)
mcp = pytest.importorskip("mcp", reason="the page needs the extra demo")

from mcp.client.streamable_http import streamable_http_client  # noqa: E402

from opera_env.demo.server import serve_page  # noqa: E402
from opera_env.demo.workshop import Workshop  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_SERVER_PORT", "1")  # a port that is named elsewhere is not taken
        with serve_page(Workshop(max_megapixels=0.2, max_tools=3), port=0) as address:
            assert not address.endswith(":1/")
            yield address


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read().decode()


async def _call(address: str, calls: list[tuple[str, dict[str, Any]]]) -> tuple[list[Any], list[Any]]:
    async with (
        streamable_http_client(f"{address}gradio_api/mcp/") as (reading, writing, *_),
        mcp.ClientSession(reading, writing) as session,
    ):
        await session.initialize()
        tools = (await session.list_tools()).tools
        answers: list[Any] = []
        for name, arguments in calls:
            earlier = answers[-1] if answers else None
            given = {key: value(earlier) if callable(value) else value for key, value in arguments.items()}
            answers.append(await session.call_tool(name, given))
        return tools, answers


def data_of(answer: Any) -> dict[str, Any]:
    texts = [part.text for part in answer.content if part.type == "text"]
    assert texts and texts[0].startswith("{"), texts
    return json.loads(texts[0])


def image_of(answer: Any) -> Image.Image:
    part = next(part for part in answer.content if part.type == "image")
    return Image.open(io.BytesIO(base64.b64decode(part.data)))


def test_a_chat_agent_restores_a_photograph_by_mcp(address: str, photograph: Path) -> None:
    encoded = base64.b64encode(photograph.read_bytes()).decode()
    url = f"data:image/png;base64,{encoded}"

    def name(answer: Any) -> str:
        return data_of(answer)["photograph"]

    calls: list[tuple[str, dict[str, Any]]] = [
        ("inspect", {"path": url}),
        ("apply_plan", {"photograph": name, "plan": "unet.denoise_25, brighten.constant_shift"}),
        ("undo", {"photograph": name}),
        ("restore", {"path": url}),
        ("apply_plan", {"photograph": name, "plan": "no.tool"}),
    ]
    tools, answers = asyncio.run(_call(address, calls))
    assert {tool.name for tool in tools} == {"inspect", "restore", "apply_plan", "undo"}
    assert all(tool.description for tool in tools)
    inspected, applied, undone, restored, refused = answers
    assert data_of(inspected)["probabilities"]["noise"] > 0.5
    assert data_of(applied)["plan"] == ["unet.denoise_25", "brighten.constant_shift"]
    before = np.asarray(Image.open(photograph).convert("RGB"), dtype=float)
    after = np.asarray(image_of(applied).convert("RGB"), dtype=float)
    assert (
        np.abs(np.diff(after, axis=1)).mean() < 0.8 * np.abs(np.diff(before, axis=1)).mean()
    )  # less noise
    assert data_of(undone)["plan"] == []
    result = data_of(restored)
    assert result["plan"] and result["score_after"] > result["score_before"]
    assert refused.isError and "no.tool" in str(refused.content)


def test_the_page_loads_nothing_from_other_machines(address: str) -> None:
    page = read(address)
    assert "opera-env" in page
    loaded = re.findall(r'(?:src|href)="(https?://[^"]+)"', page)
    assert all(url.startswith(address) for url in loaded), loaded


def run_action(page: Any, name: str, inputs: list[Any], state: Any) -> list[Any]:
    """Does what a click does: runs an action of the page between pre- and postprocessing."""
    action = next(fn for fn in page.fns.values() if fn.name == name and fn.api_visibility == "private")
    return asyncio.run(page.process_api(action, inputs, state=state))["data"]


def test_clicks_restore_compete_and_play(photograph: Path, tmp_path: Path) -> None:
    from gradio.state_holder import SessionState

    from opera_env.demo.page import build_page

    page = build_page(Workshop(max_megapixels=0.5, max_tools=3), tmp_path)
    state = SessionState(page)
    file = {"path": str(photograph), "meta": {"_type": "gradio.FileData"}}
    restored = run_action(page, "restore", [file, "planner", "lite", ["unet.denoise_25"], None], state)
    assert "unet.denoise_25" in restored[3] and "Critic: **" in restored[4]
    before, after = (np.asarray(Image.open(side["path"])) for side in restored[1])
    assert before.shape == after.shape and not np.array_equal(before, after)
    names = ["matched", "untouched", "lite"]
    contest = run_action(page, "compete", [file, ["jpeg"], 0, *names], state)
    assert "| matched | " in contest[-1] and "| **" in contest[-1] and "dejpeg" in contest[4]
    started = run_action(page, "start", [3], state)
    assert started[3].startswith("R_q: ")
    played = run_action(page, "play", [None, "unet.denoise"], state)
    assert "unet.denoise" in played[2] and "→" in played[3]
    ended = run_action(page, "end", [None], state)
    assert "Regret: **" in ended[3] and "The planner: **" in ended[3]
    for seed in (-1, None):
        with pytest.raises(Exception, match=r"a whole number from 0 on|minimum value 0"):
            run_action(page, "start", [seed], state)


def test_files_to_download_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from opera_env.demo import restore_tab

    monkeypatch.setattr(restore_tab, "_SECONDS_OF_RESULTS", 0.05)
    folder = restore_tab.temporary_folder(tmp_path)
    (folder / "photograph.png").write_bytes(b"a person's photograph")
    end = time.monotonic() + 10
    while folder.exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert not folder.exists()
