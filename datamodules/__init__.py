"""Lightning datamodules for mathematics data: they read files and yield problems."""
