"""Rollouts: where the trajectories of a training step or of an evaluation come from."""
