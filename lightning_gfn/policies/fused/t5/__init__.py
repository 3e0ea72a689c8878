"""T5: working copies of its stacks, its encoder and its decoder."""
