"""Attempts at theorems, one tactic after another."""
