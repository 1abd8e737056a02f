"""Q-Agent: perceive the degradations and their severities, then take the tool of the largest gain."""

from __future__ import annotations

from opera_baselines.trials import Trials, TrialSearch


class QAgent(TrialSearch):
    """Greedy search over the tools of the degradations that were perceived at first.

    The degradations are perceived once, with their severities. At each step all tools of those that remain
    are tried, the most severe degradation first, and the tool of the largest gain in quality is kept. Its
    degradations are then done. The agent ends where no tool gains, or no degradation remains.

    Kept from the paper: perception with severities before anything runs, and greedy restoration that is
    driven by a measured quality, whose cost is linear in the number of degradations. Left out: the
    multimodal language model, whose chain of thought perceives the degradations one after the other; the
    probability of the detector stands for the severity.

    Args:
        toolbox: The tools.
        max_tools: Maximum number of tools in a plan.
        tool_cost: Cost of each tool of a plan, subtracted from the quality.
        profile: "judge" for the critic or the reward, "no_reference" for NIQE and PIQE alone.

    Source: Zhou et al., Q-Agent: Quality-Driven Chain-of-Thought Image Restoration Agent through Robust
        Multimodal Large Language Model, 2025.
    """

    def restore(self, trials: Trials) -> None:
        severities = self.severities(trials.kept)
        remaining = sorted(self.look(trials.kept), key=severities.__getitem__, reverse=True)
        while remaining and self.has_room(trials):
            best = trials.kept
            for tool in dict.fromkeys(name for each in remaining for name in self.tools_for(each)):
                best = max(best, trials.extend(tool), key=lambda trial: trial.reward)
            if best is trials.kept:
                return
            trials.keep(best)
            done = self.toolbox[best.plan[-1]].degradations
            remaining = [name for name in remaining if name not in done]
