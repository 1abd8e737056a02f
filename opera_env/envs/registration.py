"""Tells Gymnasium about the environments."""

from gymnasium.envs.registration import register, registry

ENVIRONMENTS = {
    "OPERA-Restore-v0": ("opera_env.envs.restore:RestoreEnv", "opera_env.envs.vector:RestoreVectorEnv"),
    "OPERA-RestoreStepwise-v0": (
        "opera_env.envs.stepwise:StepwiseEnv",
        "opera_env.envs.vector:StepwiseVectorEnv",
    ),
}
"""Environment id to its class and its vector class."""


def register_all() -> None:
    """Registers the environments; harmless if done twice."""
    for name, (single, vector) in ENVIRONMENTS.items():
        if name not in registry:
            # No max_episode_steps: a time limit would truncate, and learners bootstrap past truncation.
            register(id=name, entry_point=single, vector_entry_point=vector)
