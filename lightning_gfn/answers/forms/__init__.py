"""Forms that answers are written in, each read from its text and compared with others of its kind."""
