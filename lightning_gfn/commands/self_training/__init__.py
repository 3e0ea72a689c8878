"""Commands that make training data of a model's own samples."""
