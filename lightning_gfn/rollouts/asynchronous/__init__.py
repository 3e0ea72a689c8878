"""Rollout batches that Ray actors sample and reward while the trainer makes its steps."""
