"""The other side of each comparison, as its users would run it."""
