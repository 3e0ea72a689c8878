"""Decoders with their own working copy of the weights."""
