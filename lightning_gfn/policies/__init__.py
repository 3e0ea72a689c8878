"""Language models that sample actions and score them."""
