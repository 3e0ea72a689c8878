"""The tasks of posterior inference inside a language model (Hu et al. 2024)."""
