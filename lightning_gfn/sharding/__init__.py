"""Weights cut over processes by FSDP2: the strategy, where weights are whole, and checkpoints in folders."""
