"""A small propositional Lean in Python, for tests and trials."""
