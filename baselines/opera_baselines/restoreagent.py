"""RestoreAgent: perceive, plan, run one tool, look again, and plan anew with the history."""

from __future__ import annotations

from opera_baselines.trials import Trials, TrialSearch
from opera_env.types import Plan


class RestoreAgent(TrialSearch):
    """After each tool it looks at the result and plans again; a step after which quality fell is undone.

    Each plan has a tool for every degradation that is seen, the one that was applied last first. Its first
    tool runs. If the judge does not prefer the result, the step is undone and becomes part of the history:
    the next plan takes another tool there, for the same degradation as long as there are any. The agent
    ends where no degradation is seen, or none that has a tool left to try.

    Kept from the paper: perception, order and choice of tools, execution step by step, planning again
    after each step, and rolling back with a history. Left out: the multimodal language model, which was
    trained on the best sequences of tools that an exhaustive search finds. The detector perceives, the
    order is that of domain knowledge, and tools come in the order of the toolbox.

    Args:
        toolbox: The tools.
        max_tools: Maximum number of tools in a plan.
        tool_cost: Cost of each tool of a plan, subtracted from the quality.

    Source: Chen et al., RestoreAgent: Autonomous Image Restoration Agent via Multimodal Large Language
        Models, NeurIPS 2024.
    """

    def restore(self, trials: Trials) -> None:
        history: set[Plan] = set()
        while self.has_room(trials):
            plan = self._next_tools(trials, history)
            if not plan:
                return
            trial = trials.extend(plan[0])
            history.add(trial.plan)
            if trial.reward > trials.kept.reward:
                trials.keep(trial)
            else:
                trials.roll_back(plan[0])

    def _next_tools(self, trials: Trials, history: set[Plan]) -> Plan:
        """Returns a tool for each degradation that is seen, without those that were tried at this step."""
        plan: list[str] = []
        for degradation in self.look(trials.kept):
            untried = (name for name in self.tools_for(degradation) if name not in plan)
            plan += [name for name in untried if (*trials.kept.plan, name) not in history][:1]
        return tuple(plan)
