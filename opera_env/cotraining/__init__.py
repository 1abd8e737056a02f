"""The execution update: tools are trained under plans, and the world changes for all who share it."""

from opera_env.cotraining.losses import LOSSES, LossWeights
from opera_env.cotraining.tone import with_tone
from opera_env.cotraining.update import ExecutionConfig, ExecutionUpdate

__all__ = ["LOSSES", "ExecutionConfig", "ExecutionUpdate", "LossWeights", "with_tone"]
