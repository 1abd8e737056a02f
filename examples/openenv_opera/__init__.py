"""Image restoration by tools as an environment of OpenEnv."""
