"""Texts that a model reads: proof prompts and feedback."""
