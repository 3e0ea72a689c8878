"""Drawing actions from a model, one token after another."""
