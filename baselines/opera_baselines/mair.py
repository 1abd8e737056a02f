"""MAIR: the stages of image formation are undone one after the other, each by its expert."""

from __future__ import annotations

from opera_baselines.trials import Trial, Trials, TrialSearch
from opera_env.degradations import DEGRADATION_CLASSES, Stage


class Mair(TrialSearch):
    """Three experts, for storage, lens and scene: the stage that came last is undone first.

    A scheduler looks at the image once and calls the experts of the stages that are damaged. An expert
    looks at the image that it is given, and takes the degradations of its stage, the most severe first. It
    tries their tools in the order of the toolbox. The first is kept after which the degradation is gone
    and quality did not fall; where there is none, the tool of the highest quality, if that rose.

    Kept from the paper: the three stages and their order, one expert for each with tools of its own, and
    few calls, as no order is searched. Left out: the language models of scheduler and experts, and the
    registry in which the experts describe their tools in words. Storage has the degradations of the
    stage ``SENSOR`` here: noise, low resolution and compression.

    Args:
        toolbox: The tools.
        max_tools: Maximum number of tools in a plan.
        tool_cost: Cost of each tool of a plan, subtracted from the quality.

    Source: Jiang et al., Multi-Agent Image Restoration, 2025.
    """

    def restore(self, trials: Trials) -> None:
        damaged = {DEGRADATION_CLASSES[name].stage for name in self.look(trials.kept)}
        for stage in sorted(damaged, reverse=True):
            self._call_expert(trials, stage)

    def _call_expert(self, trials: Trials, stage: Stage) -> None:
        """Restores the degradations of one stage, which its expert sees in the image that is kept."""
        severities = self.severities(trials.kept)
        seen = [name for name in self.look(trials.kept) if DEGRADATION_CLASSES[name].stage == stage]
        for degradation in sorted(seen, key=severities.__getitem__, reverse=True):
            if not self.has_room(trials):
                return
            trial = self._choose(trials, degradation)
            if trial is trials.kept:
                trials.roll_back(degradation)
            else:
                trials.keep(trial)

    def _choose(self, trials: Trials, degradation: str) -> Trial:
        """Returns the trial of the tool that the expert chooses; the one that is kept for none."""
        best = trials.kept
        for tool in self.tools_for(degradation):
            trial = trials.extend(tool)
            is_gone = self.severities(trial)[degradation] <= self.threshold
            if is_gone and trial.reward >= trials.kept.reward:
                return trial
            best = max(best, trial, key=lambda each: each.reward)
        return best
