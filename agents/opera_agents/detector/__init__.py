"""The degradation detector: its trainer and its evaluation."""
