"""Tracking writes what a run leaves behind: its folder, checkpoints, metrics on disk and in MLflow, its origin."""
