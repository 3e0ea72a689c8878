"""Reports over finished runs; nothing here imports torch or Lightning."""
