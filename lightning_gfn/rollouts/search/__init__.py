"""Proof search over tactics that a policy proposes."""
