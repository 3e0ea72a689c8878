"""Metrics of sampled solutions: pure functions, and torchmetrics classes that aggregate them over problems."""
