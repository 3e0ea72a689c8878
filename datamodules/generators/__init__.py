"""Generators of problems with known solutions."""
