"""A run tried out before it begins: its first prompt, its memory and the time of its steps."""
