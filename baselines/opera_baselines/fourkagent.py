"""4KAgent: every tool of a degradation is run, and the best result by a mix of qualities is kept."""

from __future__ import annotations

from opera_baselines.trials import Trials, TrialSearch
from opera_env.tools import Toolbox


class FourKAgent(TrialSearch):
    """A mixture of experts for each degradation, with a threshold below which a step is undone.

    At each step the agent looks at the image that it has, and takes the degradation that was applied last
    of those that are seen and not done. All tools for it run on the image; the result of the highest
    quality is kept if it gains at least ``margin``, and the step is undone otherwise. Each degradation is
    taken once.

    Kept from the paper: all tools of a step compete and a mix of qualities chooses, the result is
    compared with the one before and rolled back at a threshold, the plan is made again after a rollback,
    and profiles say what quality is. Left out: the vision-language models that perceive and plan, the
    preference model in the mix, super-resolution to 4K, and the restoration of faces.

    Args:
        toolbox: The tools.
        max_tools: Maximum number of tools in a plan.
        tool_cost: Cost of each tool of a plan, subtracted from the quality.
        profile: "fidelity", where the judge has three quarters of the weight and NIQE and PIQE the rest,
            or "perception", the other way round: ``4kagent:perception``.
        margin: Minimum gain in quality for which a step is kept.

    Source: Zuo et al., 4KAgent: Agentic Any Image to 4K Super-Resolution, 2025.
    """

    def __init__(
        self,
        toolbox: Toolbox,
        max_tools: int = 6,
        tool_cost: float = 0.0,
        profile: str = "fidelity",
        margin: float = 0.0,
    ) -> None:
        super().__init__(toolbox, max_tools, tool_cost, profile=profile)
        self.margin = margin

    def restore(self, trials: Trials) -> None:
        done: set[str] = set()
        while self.has_room(trials):
            agenda = [name for name in self.look(trials.kept) if name not in done]
            if not agenda:
                return
            done.add(agenda[0])
            experts = [trials.extend(tool) for tool in self.tools_for(agenda[0])]
            best = max(experts, key=lambda trial: trial.reward)
            if best.reward > trials.kept.reward + self.margin:
                trials.keep(best)
            else:
                trials.roll_back(agenda[0])
