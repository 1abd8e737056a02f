"""A scripted world: which degradations are seen after a plan, and what the result is worth."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import pytest
import torch
from torch import nn

from opera_baselines.trials import Trial, TrialSearch
from opera_env.degradations import DEGRADATIONS
from opera_env.tools import Toolbox
from opera_env.types import Decision, Outcome, Plan, Sample, SampleSpec

Seen = Callable[[Plan], Collection[str]]
Value = Callable[[Plan], float]


def degradation_of(tool: str) -> str:
    """The tools of the scripted world are called FAMILY.DEGRADATION."""
    return tool.partition(".")[2]


class ScriptedWorld:
    """A scorer whose results are told apart by their pixels, and the detector that reads them.

    Attributes:
        seen: Returns the degradations that are seen after a plan.
        value: Returns R_q of the result of a plan.
        tried: The plans that were scored, in order and with repetitions.
    """

    def __init__(self, seen: Seen, value: Value, tools: Sequence[str]) -> None:
        self.seen, self.value = seen, value
        self.toolbox = Toolbox()
        for tool in tools:
            self.toolbox.add(tool, nn.Identity(), degradations=[degradation_of(tool)])
        self.tried: list[Plan] = []
        self._known: list[Plan] = []

    @property
    def tool_names(self) -> tuple[str, ...]:
        return self.toolbox.names

    def score(
        self, samples: Sequence[Sample], plans: Sequence[Plan], *, restored: bool = True
    ) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for plan in plans:
            self.tried.append(plan)
            if plan not in self._known:
                self._known.append(plan)
            image = torch.full((3, 8, 8), self._known.index(plan), dtype=torch.uint8)
            outcomes.append(Outcome(image, r_q=self.value(plan), num_tools=len(plan)))
        return outcomes

    def severities(self, trial: Trial) -> dict[str, float]:
        plan = self._known[round(255 * trial.image.mean().item())]
        return {name: 0.9 if name in self.seen(plan) else 0.1 for name in DEGRADATIONS}

    def decide(self, search: TrialSearch) -> Decision:
        """Lets a search restore one image of this world, which its detector observes."""
        search.severities = self.severities  # pyright: ignore[reportAttributeAccessIssue]
        image = torch.zeros(3, 8, 8)
        sample = Sample(image, None, None, (8, 8), SampleSpec("scripted", 0))
        (decision,) = search.decide([sample], self)
        return decision


MakeWorld = Callable[..., ScriptedWorld]


@pytest.fixture
def make_world() -> MakeWorld:
    """``make_world(present, seen=..., value=..., tools=...)``

    By default there are two tools for each degradation that is present; each removes it, and every removed
    degradation is worth one point.
    """

    def make(
        present: Sequence[str],
        seen: Seen | None = None,
        value: Value | None = None,
        tools: Sequence[str] | None = None,
    ) -> ScriptedWorld:
        def left(plan: Plan) -> Collection[str]:
            return set(present) - {degradation_of(tool) for tool in plan}

        names = tools or [f"{family}.{name}" for name in present for family in "ab"]
        see = seen or left
        return ScriptedWorld(see, value or (lambda plan: 5.0 - len(see(plan))), names)

    return make
