"""Rewards: rollouts to untempered terms, and terms to log rewards at an optimiser step."""
