"""The execution update: tools are trained under plans, and the world changes for all who share it."""

from opera_env.cotraining.losses import LOSS_PRESETS, LossWeights
from opera_env.cotraining.tone_curves import add_tone_curves
from opera_env.cotraining.update import ExecutionConfig, ExecutionUpdate

__all__ = ["LOSS_PRESETS", "ExecutionConfig", "ExecutionUpdate", "LossWeights", "add_tone_curves"]
