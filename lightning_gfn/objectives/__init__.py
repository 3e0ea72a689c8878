"""Training objectives: pure functions over log-probabilities and rewards, and frozen dataclasses that YAML can name."""
