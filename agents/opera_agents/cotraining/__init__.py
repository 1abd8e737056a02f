"""Training of the tools under an agent's plans."""
