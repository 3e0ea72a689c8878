"""The cluster that work is sent to."""
