"""Bring MLflow up to what lies on disk."""
