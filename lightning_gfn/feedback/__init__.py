"""Where a teacher's feedback on sampled trajectories comes from."""
