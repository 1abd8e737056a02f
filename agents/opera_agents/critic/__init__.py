"""The critic: a network that predicts R_q without a reference, and its training."""
