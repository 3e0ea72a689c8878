"""Commands that read, compare, send and keep what runs have left."""
