"""Intervals, tests and matched comparisons of methods."""
