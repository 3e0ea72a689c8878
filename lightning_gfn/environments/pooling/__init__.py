"""Work shared among Lean processes."""
