"""Networks that judge completions, and trained models read as judges."""
