"""The execution update: tools are trained under plans, in place, in the toolbox that environments share."""

from opera_env.cotraining.config import ExecutionConfig
from opera_env.cotraining.losses import LOSS_PRESETS, LossWeights
from opera_env.cotraining.tone_curves import add_tone_curves
from opera_env.cotraining.update import ExecutionUpdate

__all__ = ["LOSS_PRESETS", "ExecutionConfig", "ExecutionUpdate", "LossWeights", "add_tone_curves"]
