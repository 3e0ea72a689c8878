"""Environments run tactics in Lean: backends, the pool of them, and the rules that tactics must keep."""
