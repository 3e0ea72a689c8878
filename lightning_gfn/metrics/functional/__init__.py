"""Estimates and similarities as plain functions."""
