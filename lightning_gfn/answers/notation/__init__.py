"""Readers of written answers: numbers, quantities, structures, and one notation for all of them."""
