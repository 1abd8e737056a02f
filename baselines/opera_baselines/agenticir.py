"""AgenticIR: perceive, schedule by experience, execute, reflect, roll back and reschedule."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from opera_baselines.trials import Trial, Trials, TrialSearch
from opera_env.evaluation.experience import OrderExperience
from opera_env.seeding import content_seed
from opera_env.tools import Toolbox

SHIPPED_EXPERIENCE = Path(__file__).with_name("experience.json")
"""Experience that comes with this package, fitted with the tools of ``lite`` on BSDS500's training set."""


class AgenticIR(TrialSearch):
    """A schedule of degradations by experience, and a search that goes back where a step has failed.

    The detector perceives the degradations, and experience puts them in order. For the next one its tools
    run in random order until one succeeds: the detector then sees the degradation no more. If none does,
    the step is rolled back and the next degradation of the schedule is tried in its place. If all that
    remain fail, the first gets the tool whose result the judge prefers, or none if it prefers to leave the
    image, and counts as done.

    Kept from the paper: perception, scheduling from experience that an exploration has gathered, tools
    that are tried until reflection accepts one, rollback and rescheduling, and the compromise where all
    fails. Left out: the language model, which turns the experience into words and schedules by them, and
    the vision-language model that perceives and reflects; the table and the detector do so. With a tool
    cost, a step must also gain what it costs, which the paper does not know.

    Args:
        toolbox: The tools.
        max_tools: Maximum number of tools in a plan.
        tool_cost: Cost of each tool of a plan, subtracted from the quality.
        seed: Seed of the order in which tools are tried, together with the image.
        path: File that ``opera-env fit-experience`` wrote; by default the shipped one. The order is one of
            degradations, so it can be used with other tools than those that it was fitted with.

    Raises:
        MissingWeightsError: If there is no such file.
        AgentError: If the file holds something else.

    Source: Zhu et al., An Intelligent Agentic System for Complex Image Restoration Problems, ICLR 2025.
    """

    def __init__(
        self,
        toolbox: Toolbox,
        max_tools: int = 6,
        tool_cost: float = 0.0,
        seed: int = 0,
        path: Path | str = SHIPPED_EXPERIENCE,
    ) -> None:
        super().__init__(toolbox, max_tools, tool_cost, seed)
        self.experience = OrderExperience.read(Path(path))

    def restore(self, trials: Trials) -> None:
        rng = np.random.default_rng(content_seed(self.seed, trials.kept.image))
        agenda = self.experience.schedule(self.look(trials.kept))
        tools = {name: [str(tool) for tool in rng.permutation(self.tools_for(name))] for name in agenda}
        while agenda and self.has_room(trials):
            for degradation in agenda:
                trial = self._attempt(trials, degradation, tools[degradation])
                if trial is not None:
                    trials.keep(trial)
                    agenda.remove(degradation)
                    break
                trials.roll_back(degradation)
            else:
                self._compromise(trials, tools[agenda[0]])
                agenda.pop(0)

    def _attempt(self, trials: Trials, degradation: str, tools: Sequence[str]) -> Trial | None:
        """Returns the first trial after which a degradation is gone; None if no tool removes it."""
        for tool in tools:
            trial = trials.extend(tool)
            is_gone = self.severities(trial)[degradation] <= self.threshold
            pays = not self.tool_cost or trial.reward >= trials.kept.reward
            if is_gone and pays:
                return trial
        return None

    def _compromise(self, trials: Trials, tools: Sequence[str]) -> None:
        """Keeps the best of results that have all failed, if it is better than the image before."""
        best = max((trials.extend(tool) for tool in tools), key=lambda trial: trial.reward)
        if best.reward > trials.kept.reward:
            trials.keep(best)
