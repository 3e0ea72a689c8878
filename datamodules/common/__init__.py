"""Base classes of the data modules: they read rows, split them, order problems and build loaders."""
