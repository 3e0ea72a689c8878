"""Commands on worlds of learning agents."""
