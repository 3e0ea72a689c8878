"""What a run leaves behind: its folder, checkpoints, figures on disk and in MLflow, and where it came from."""
