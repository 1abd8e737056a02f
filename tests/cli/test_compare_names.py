"""Groups of agents in ``--agents``: the literature."""

from __future__ import annotations

import pytest

from opera_env.cli.compare_names import LITERATURE_AGENTS, choose_agents
from opera_env.console import Console
from opera_env.tools import Toolbox


def test_the_literature_has_the_agents_that_can_be_made(
    toolbox: Toolbox, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = choose_agents("literature,untouched,mair-blind", "folder", True, toolbox, Console())
    made = ["agenticir-blind", "restoreagent-blind", "qagent-blind", "mair-blind", "4kagent-blind"]
    assert chosen == [*made, "4kagent:perception-blind", "untouched"]
    notices = [line for line in capsys.readouterr().out.splitlines() if line.startswith("left out: ")]
    assert [line.split(": ")[1] for line in notices] == ["mcts-blind", "simplecall", "rl_restore", "llm"]
    reasons = ("the planner was trained for", "ppo.train", "rl_restore.train", "llm:MODEL@URL")
    assert all(reason in line for reason, line in zip(reasons, notices, strict=True))
    assert {*chosen} - {"untouched"} < {*LITERATURE_AGENTS}


def test_with_the_tools_of_lite_the_search_with_priors_is_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "mcts-blind" in choose_agents("literature", "lite", True, Toolbox.load("lite"), Console())
    assert "left out: llm" in capsys.readouterr().out
