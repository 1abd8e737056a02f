"""Registers the environments with Gymnasium."""

from gymnasium.envs.registration import register, registry

ENVIRONMENTS = {
    "OPERA-Restore-v0": ("opera_env.envs.restore:RestoreEnv", "opera_env.envs.vector:RestoreVectorEnv"),
    "OPERA-RestoreStepwise-v0": (
        "opera_env.envs.stepwise:StepwiseEnv",
        "opera_env.envs.vector:StepwiseVectorEnv",
    ),
}
"""The class and the vector class of each environment id."""


def register_all() -> None:
    """Registers the environments that are not registered yet."""
    for name, (single, vector) in ENVIRONMENTS.items():
        if name not in registry:
            # No max_episode_steps: learners bootstrap from the value of a state at which a time limit
            # truncates, but these episodes have ended.
            register(id=name, entry_point=single, vector_entry_point=vector)
