"""Targets over classes of solutions."""
