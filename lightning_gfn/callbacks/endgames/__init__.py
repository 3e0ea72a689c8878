"""An endgame played out after a test: whole games against fixed opponents, and boards with a model's moves."""
