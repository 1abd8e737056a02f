"""Training of single tools, each alone on one degradation, and the measurement of their model cards."""
