"""Modules that the trainers share: runs, seeds, batches, checkpoints, training data and validation."""
