"""Replay buffers of trajectories."""
