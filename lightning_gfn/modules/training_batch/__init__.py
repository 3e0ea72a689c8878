"""The batch that a training step of a rollout module reads: layout, columns, window, metrics."""
