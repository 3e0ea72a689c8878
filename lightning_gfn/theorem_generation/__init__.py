"""Generation of Lean statements with proofs: arithmetic and propositional logic."""
