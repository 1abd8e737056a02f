"""``opera-env evaluate`` of a chat model behind a server, and its stored answers without the server."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from opera_env.cli import main
from opera_env.evaluation.results import read_results

BRIGHT = "tests.own_rewards:BRIGHT"
TOOL = "brighten.gamma_correction"


def test_answers_have_quality_errors_and_tokens_and_can_be_judged_again(
    serve: Callable[..., Any],
    photos: Path,
    small_toolbox: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def body(text: str) -> bytes:
        usage = {"prompt_tokens": 700, "completion_tokens": 30}
        return json.dumps({"choices": [{"message": {"content": text}}], "usage": usage}).encode()

    good = f"<think>Hm.</think><degradation>['rain']</degradation><answer>['{TOOL}']</answer>"
    server = serve(body("Hm."), body("Still not."), body(good))
    out, again = tmp_path / "out.jsonl", tmp_path / "again.jsonl"
    words = f"evaluate --benchmark groups-abc --hq {photos} --canvas 64 --n 1 --toolboxes {small_toolbox}"
    options = [*words.split(), "--device", "cpu", "--reward", BRIGHT]
    agent = f"api:m@{server.url}"
    assert main([*options, "--agents", agent, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    rows = read_results(out)
    assert len(server.requests) == len(rows) + 1 and all(row.answer is not None for row in rows)
    answers = [row.answer or {} for row in rows]
    assert [answer["prompt_tokens"] for answer in answers] == [1400] + [700] * (len(rows) - 1)
    assert answers[0]["error"] and not any(answer["error"] for answer in answers[1:])
    assert [row.plan for row in rows] == [()] + [(TOOL,)] * (len(rows) - 1)
    r_d = re.search(r"answers of .*: 16, not parsed 1, R_d (0\.\d\d)", printed)
    assert r_d is not None and "tokens read" in printed and "744" in printed

    assert main([*options, "--answers", str(out), "--out", str(again)]) == 0
    second = read_results(again)
    assert [(row.plan, row.answer, row.r_q) for row in second] == [
        (row.plan, row.answer, row.r_q) for row in rows
    ]
    assert r_d[0].split(":")[-1] in capsys.readouterr().out
    assert len(server.requests) == len(rows) + 1, "the model is not asked again"
