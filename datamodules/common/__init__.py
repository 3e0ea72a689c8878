"""What the data modules share: rows, splits, order and loaders."""
