"""Data written by imperfect experts whose distributions are known exactly: arithmetic and chess endgames."""
